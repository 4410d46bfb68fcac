// Package conf reads keepalived.conf and had's cluster block in it: from text to typed structs with all defaults in place.
//
// What keepalived would load loads here with the same meaning. Whatever is unknown, unusable or suspicious becomes a
// finding with file, line and column, all of them at once. Where keepalived's parser misreads in silence (a second
// statement on a line, the braces of an unknown block) the finding says so, and what was meant is read.
//
// A finding is a Note (nothing is lost), a Warning (it loads, but something is ignored, corrected or will surprise) or an
// Error (what is written cannot be done; its line or block is dropped). An Error may be fatal: nothing can be started.
// Fatal are the errors with which keepalived does not start either, those in the cluster block, and words that this
// version does not do and without which starting would do harm.
//
// Package syntax holds the lexical grammar, package words the table of all words. Load is pure but for Options.Files: the
// same options and files give the same result. Package host has the options of this machine.
package conf
