// Package layout holds no code: its test states which package may import which, and why.
package layout
