package syntax

import "io/fs"

// Files is the file system from which configurations are read. Relative names start where Options.Path starts.
type Files interface {
	ReadFile(name string) ([]byte, error)
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
}

// Checks are the checks that keepalived makes on include lines. One that fails keeps the configuration from being used.
type Checks uint8

// The include checks.
const (
	CheckRead     Checks = 1 << iota // matched entries must be readable regular files
	CheckMatch                       // a name without wildcards must match
	CheckWildcard                    // a pattern with wildcards must match something
	CheckBrace                       // every alternative of a brace pattern must match
)

// Word is one word with its place.
type Word struct {
	Text   string
	Quoted bool
	Pos    Pos
	Used   Pos // where Text came into effect, if it stands elsewhere
}

// Node is a statement with the block that belongs to it, if any. In a block of values a node is one line.
type Node struct {
	Words    []Word // at least one; of a word that takes a script: keyword, script, user, group
	Line     string // the statement as it stands, after expansion
	Children []*Node
	IsBlock  bool
	Known    bool // the keyword is known where it stands; always false for values and in a block that is not known
	Open     Pos  // of the opening brace; invalid if it is missing
	Close    Pos  // of the closing brace; invalid if it is missing
}

// Pos returns the place of the first word.
func (n *Node) Pos() Pos { return n.Words[0].Pos }

// Keyword returns the first word.
func (n *Node) Keyword() string { return n.Words[0].Text }

// Args returns the words after the first.
func (n *Node) Args() []Word { return n.Words[1:] }

// Shape is what follows a keyword.
type Shape uint8

// The shapes. The zero Shape says that the keyword is not known.
const (
	Unknown    Shape = iota
	Plain            // words
	Statements       // words and a block of statements
	Values           // words and a block in which each line is one value with options
	Names            // words and a block in which each word is a name
)

// Spec says how a statement is read.
type Spec struct {
	Shape Shape

	// Min and Max bound the number of words after the keyword; Max < 0 is no bound. A word beyond Max that is itself a
	// keyword of the block begins the next statement.
	Min, Max int

	// Literal says that the words beyond Min are numbers or words of which there are only some, none of them a keyword. A
	// keyword among them begins the next statement.
	Literal bool

	// Command says that the line is split into words by rules of its own and holds one statement.
	Command bool

	// Free says that several statements may stand on one line, so that this is not worth a finding.
	Free bool
}

// Grammar knows the words of the language. A path names blocks by their keywords, outermost first; it is empty outside
// any block. Spec.Shape is Unknown for a keyword that is not known there.
type Grammar interface {
	Spec(path []string, keyword string) Spec

	// Value tells whether a line in a block of values may begin with this word although it is a keyword of the block around.
	Value(path []string, word string) bool
}
