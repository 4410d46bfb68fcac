package syntax

// Codes of findings about the lexical grammar.
const (
	CodeNoFile          Code = "file-not-found"
	CodeInclude         Code = "include"
	CodeIncludeLoop     Code = "include-loop"
	CodeByteOrderMark   Code = "byte-order-mark"
	CodeBadLine         Code = "bad-line"
	CodeLongLine        Code = "long-line"
	CodeQuote           Code = "unclosed-quote"
	CodeBrace           Code = "brace"
	CodeSecondStatement Code = "second-statement"
	CodeCondition       Code = "condition"
	CodeDefinition      Code = "definition"
	CodeUndefined       Code = "undefined"
	CodeGenerator       Code = "generator"
	CodeLimit           Code = "limit"
)
