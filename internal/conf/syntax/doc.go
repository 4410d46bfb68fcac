// Package syntax reads the lexical grammar of keepalived.conf and builds a tree of statements and blocks from it.
//
// It knows comments, quotes, include lines with patterns, definitions ($NAME), conditions (@ID), generators (~SEQ, ~LST)
// and braces, but no word of the language: those come from a Grammar. Every byte keeps the place in the file where it
// stands, through any number of expansions, so that each word of the tree, and each finding, has a file, line and column.
//
// Nothing stops at the first mistake: findings are collected, and what follows a mistake is still read as it was meant.
// Where that differs from what keepalived would make of it in silence, a finding says so.
//
// # The way of a line
//
// A line of a file has blanks and its comment removed. If it belongs to a definition of several lines, that is all.
// Otherwise its condition is decided, then it is a definition, or a generator, or it has its references replaced, after
// which comments are removed again and the condition is looked at again. Then it is an include line, or it is split at
// braces and into words.
//
// # Bounds
//
// Lines have at most MaxLine bytes, also after expansion; files MaxFile bytes; a configuration Options.MaxLines lines,
// MaxDepth nested files and MaxNesting nested blocks; at most MaxFindings findings are kept.
//
// The package is pure: it reads files through Options.Files and knows no clock, no environment and no random source.
package syntax

// Bounds of what is read.
const (
	MaxLine       = 1023     // bytes of a line, without its end
	MaxFile       = 16 << 20 // bytes of one file
	MaxDepth      = 64       // files that include one another
	MaxNesting    = 64       // blocks in one another
	MaxFindings   = 1000     // findings that are kept
	maxLines      = 1 << 20  // lines after expansion, where Options give no other bound
	maxReplaced   = 256      // references replaced in one line
	maxAlternates = 1024     // alternatives of the braces of one include pattern
)
