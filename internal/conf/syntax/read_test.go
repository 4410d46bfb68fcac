package syntax_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hactl/had/internal/conf/syntax"
	"github.com/hactl/had/internal/conf/words"
)

func read(content string) *syntax.Tree {
	return syntax.Read(syntax.Options{
		Path: "t", ConfigID: "lb1", Files: fstest.MapFS{"t": {Data: []byte(content), Mode: 0o644}},
		Env: func(name string) (string, bool) { return "env-" + name, true },
	}, words.Grammar{})
}

// print writes a tree with the place of each word, and the findings.
func print(t *syntax.Tree) string {
	var b strings.Builder
	var walk func(nodes []*syntax.Node, indent string)
	walk = func(nodes []*syntax.Node, indent string) {
		for _, n := range nodes {
			b.WriteString(indent)
			for i, w := range n.Words {
				if i > 0 {
					b.WriteByte(' ')
				}
				fmt.Fprintf(&b, "%q@%d:%d", w.Text, w.Pos.Line, w.Pos.Column)
				if w.Used.IsValid() {
					fmt.Fprintf(&b, "<%d:%d", w.Used.Line, w.Used.Column)
				}
			}
			if n.IsBlock {
				fmt.Fprintf(&b, " {%d:%d}%d:%d", n.Open.Line, n.Open.Column, n.Close.Line, n.Close.Column)
			}
			b.WriteByte('\n')
			walk(n.Children, indent+"\t")
		}
	}
	walk(t.Top, "")
	for _, f := range t.Findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"words have places", "instance  \"a b\"c \n\tinstance x", `
"instance"@1:1 "a b"@1:11 "c"@1:16
"instance"@2:2 "x"@2:11
`},
		{"comments", "! a\n#b\ninstance a#b\ninstance \"a#b!\" !c\ninstance a\\#b\\!c # d\ninstance a\\b", `
"instance"@3:1 "a"@3:10
"instance"@4:1 "a#b!"@4:10
"instance"@5:1 "a#b!c"@5:10
"instance"@6:1 "a\\b"@6:10
`},
		{"an empty word is a word", `instance ""`, `
"instance"@1:1 ""@1:10
`},
		{"a quote inside a word begins the next word", `process ab"c d"e`, `
"process"@1:1 "ab"@1:9 "c d"@1:11 "e"@1:16
`},
		{"an unclosed quote ends with the line", "instance \"a b\ninstance c", `
"instance"@1:1 "a b"@1:10
"instance"@2:1 "c"@2:10
t:1:10: error: the quote is not closed on this line [unclosed-quote]
`},
		{"line ends of other systems", "instance a\r\ninstance b\r\n", `
"instance"@1:1 "a"@1:10
"instance"@2:1 "b"@2:10
`},
		{"braces make lines", "global_defs{router_id a}vrrp_script b\n{\nscript c}", `
"global_defs"@1:1 {1:12}1:24
	"router_id"@1:13 "a"@1:23
"vrrp_script"@1:25 "b"@1:37 {2:1}3:9
	"script"@3:1 "c"@3:8
`},
		{"braces in quotes are none", `instance "a { b }"`, `
"instance"@1:1 "a { b }"@1:10
`},
		{"scripts keep what is in inner quotes", `vrrp_script a { script "'/b c' d\"e" }`, `
"vrrp_script"@1:1 "a"@1:13 {1:15}1:38
	"script"@1:17 "'/b c' d\\\"e"@1:24
`},
		{"users of scripts", `vrrp_instance a { notify_master '/b'"c d"e f :g }`, `
"vrrp_instance"@1:1 "a"@1:15 {1:17}1:49
	"notify_master"@1:19 "/bc de"@1:33 "f"@1:44 ":g"@1:46
`},
		{"conditions", "@lb1 instance a\n@lb2 instance b\n@^lb2 @lb1 instance c\n@^lb1 instance d\n  @lb1", `
"instance"@1:6 "a"@1:15
"instance"@3:12 "c"@3:21
t:5:3: warning: nothing follows @lb1 on its line, which is ignored [condition]
`},
		{"definitions keep both places", "$A=x y\n$B=$A\ninstance $B\ninstance <${A}>$A.", `
"instance"@3:1 "x"@1:4<3:10 "y"@1:6<3:10
"instance"@4:1 "<x"@4:10 "y>$A."@4:11
t:4:16: warning: $A stays as it is because of what follows it: write ${A} [undefined]
`},
		{"a definition needs an end", "$A=1\nprocess $A, $A) $A. $Ab ${A}b $", `
"process"@2:1 "1,"@2:9 "1)"@2:13 "$A."@2:17 "$Ab"@2:21 "1b"@2:25 "$"@2:31
t:2:21: warning: $Ab is not defined and stays as it is; did you mean $A? [undefined]
t:2:17: warning: $A stays as it is because of what follows it: write ${A} [undefined]
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := print(read(c.in)); got != strings.TrimPrefix(c.want, "\n") {
				t.Errorf("%s\ngot\n%s\nwant%s", c.in, got, c.want)
			}
		})
	}
}

func TestSplitArguments(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		ok   bool
	}{
		{``, nil, true},
		{`  a  b	c `, []string{"a", "b", "c"}, true},
		{`'/path/a b' arg`, []string{"/path/a b", "arg"}, true},
		{`a"b c"d''`, []string{"ab cd"}, true},
		{`'' ""`, []string{"", ""}, true},
		{`a\ b \'c\" \\`, []string{"a b", `'c"`, `\`}, true},
		{`\a\b\E\f\n\r\t\v`, []string{"\a\b\x1b\f\n\r\t\v"}, true},
		{`\101\7\0 \x41\x4 \xg \cA\q`, []string{"A\x07\x00", "A\x04", "xg", "\x01q"}, true},
		{`'a\'b' "\x20"`, []string{"a'b", " "}, true},
		{`'a`, []string{"a"}, false},
		{`a\`, []string{"a"}, false},
	} {
		got, ok := syntax.SplitArguments(c.in)
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) || ok != c.ok {
			t.Errorf("%s: got %q %v, want %q %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"priority", "interface", "state", "on", "off", "notify", "notify_master", "preempt", "nopreempt"}
	for word, want := range map[string]string{
		"prioritty": "priority", "pirority": "priority", "Interface": "interface", "sate": "state", "notify_mster": "notify_master",
		"xyz": "", "prempt": "preempt", "nopremp": "nopreempt", "s": "", "of": "off", "": "",
	} {
		got, _ := syntax.Nearest(word, candidates)
		if got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestBoundsAreReported(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"lines":                        {"~SEQ(a,1,2000) ~SEQ(b,1,2000) instance $a", "too many lines"},
		"nesting":                      {strings.Repeat("a {\n", 100), "more than 64 blocks"},
		"references":                   {"$A=$A\ninstance $A", "refers to itself"},
		"growth":                       {"$A=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx${A}\ninstance $A", "more than 1023 bytes"},
		"lines that define themselves": {"$A=x \\\n $A\n$A", "too many lines"},
	} {
		tree := syntax.Read(syntax.Options{
			Path: "t", MaxLines: 10000, Files: fstest.MapFS{"t": {Data: []byte(c.in), Mode: 0o644}},
		}, words.Grammar{})
		if got := print(tree); !strings.Contains(got, c.want) {
			t.Errorf("%s: no finding says %q: %d findings", name, c.want, len(tree.Findings))
		}
	}
}

func TestIncludesAreBounded(t *testing.T) {
	files := fstest.MapFS{"t": {Data: []byte("include 0"), Mode: 0o644}}
	for i := range 100 {
		files[fmt.Sprint(i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "include %d", i+1), Mode: 0o644}
	}
	tree := syntax.Read(syntax.Options{Path: "t", Files: files}, words.Grammar{})
	if got := print(tree); !strings.Contains(got, "more than 64 files") {
		t.Error(got)
	}
	tree = syntax.Read(syntax.Options{
		Path: strings.Repeat("{a,b}", 20), Files: files,
	}, words.Grammar{})
	if got := print(tree); !strings.Contains(got, "too many alternatives") {
		t.Error(got)
	}
}

// seeds adds the files of the package's and its parent's testdata.
func seeds(f *testing.F) {
	f.Helper()
	for _, root := range []string{"../testdata/examples", "../testdata/golden"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			f.Add(content)
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
}

// FuzzRead: nothing panics, every word stands where its place says, every finding has a place in the file.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		tree := syntax.Read(syntax.Options{
			Path: "t", ConfigID: "lb1", MaxLines: 2000,
			Files: fstest.MapFS{"t": {Data: content, Mode: 0o644}, "sub/a.inc": {Data: []byte("a\nb {"), Mode: 0o644}},
		}, words.Grammar{})
		lines := strings.Split(strings.TrimPrefix(string(content), "\xef\xbb\xbf"), "\n")
		check := func(p syntax.Pos, what string) {
			if p.File == "sub/a.inc" || !p.IsValid() && p.Line == 0 {
				return
			}
			room := 3 // the byte order mark
			if p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1+room {
				t.Fatalf("%s at %v of %d lines", what, p, len(lines))
			}
		}
		plain := !strings.ContainsAny(string(content), "$~\\") && !strings.HasPrefix(string(content), "\xef\xbb\xbf")
		var walk func(nodes []*syntax.Node)
		walk = func(nodes []*syntax.Node) {
			for _, n := range nodes {
				if len(n.Words) == 0 {
					t.Fatal("a statement without a word")
				}
				for _, w := range n.Words {
					if !w.Pos.IsValid() {
						t.Fatalf("%q has no place", w.Text)
					}
					check(w.Pos, w.Text)
					check(w.Used, w.Text)
					if plain && !w.Quoted && w.Pos.File == "t" && !strings.HasPrefix(lines[w.Pos.Line-1][w.Pos.Column-1:], w.Text) {
						t.Fatalf("%q does not stand at %v", w.Text, w.Pos)
					}
				}
				check(n.Open, "brace")
				check(n.Close, "brace")
				if len(n.Children) > 0 && !n.IsBlock {
					t.Fatal("children without a block")
				}
				walk(n.Children)
			}
		}
		walk(tree.Top)
		if len(tree.Findings) > syntax.MaxFindings {
			t.Fatalf("%d findings", len(tree.Findings))
		}
		for _, finding := range tree.Findings {
			check(finding.Pos, finding.String())
			check(finding.Used, finding.String())
			if finding.Fatal && finding.Severity != syntax.Error || finding.Code == "" || finding.Message == "" {
				t.Fatalf("%+v", finding)
			}
		}
	})
}

// FuzzSplitArguments: nothing panics, and a string without quotes, backslashes and blanks is one argument.
func FuzzSplitArguments(f *testing.F) {
	for _, s := range []string{"", "a b", `'a b' "c\"d" \x41\101\cA`, `\`, `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, ok := syntax.SplitArguments(s)
		if s != "" && !strings.ContainsAny(s, "'\"\\ \t") && (!ok || len(args) != 1 || args[0] != s) {
			t.Errorf("%q: %q %v", s, args, ok)
		}
	})
}
