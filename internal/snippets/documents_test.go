package snippets_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const top = "../.."

func TestEveryGoBlockOfTheDocumentsStandsInAFileThatIsCompiled(t *testing.T) {
	t.Parallel()
	code := sources(t)
	checked := 0
	for _, name := range documents(t) {
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range goBlocks(string(text)) {
			checked++
			if !strings.Contains(code, flat(b)) {
				t.Errorf("%s: no Go file of the repository has these lines:\n%s", name, b)
			}
		}
	}
	if checked == 0 {
		t.Error("no Go block was found in any document")
	}
	t.Logf("%d Go blocks checked", checked)
}

func TestALineThatNoFileHasIsFound(t *testing.T) {
	t.Parallel()
	code := flat("func f() {\n\tone()\n\ttwo()\n}\n")
	for _, c := range []struct {
		document string
		found    bool
	}{
		{"```go\none()\ntwo()\n```\n", true},
		{"```go\n    one()\n```\n", true},
		{"```go\none()\n\ntwo()\n```\n", false},
		{"```go\none()\nthree()\n```\n", false},
		{"```go\none\n```\n", false},
	} {
		blocks := goBlocks(c.document)
		if len(blocks) != 1 || strings.Contains(code, flat(blocks[0])) != c.found {
			t.Errorf("%q: blocks %q, want found %v", c.document, blocks, c.found)
		}
	}
	if blocks := goBlocks("```sh\nls\n```\n```go\na()\n```\ntext\n```go\nb()\n```"); len(blocks) != 2 {
		t.Errorf("found %q", blocks)
	}
}

// documents lists the Markdown files that show code.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CONTRIBUTING.md"}
	docs, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		names = append(names, filepath.Join("docs", filepath.Base(d)))
	}
	return names
}

// sources returns the text of all Go files but this one, flattened.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || d.Name() == "documents_test.go":
			return nil
		}
		text, err := os.ReadFile(path)
		all.WriteString(flat(string(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// goBlocks returns what stands between ```go and ``` lines.
func goBlocks(text string) []string {
	var (
		blocks []string
		block  strings.Builder
		inside bool
	)
	for line := range strings.Lines(text) {
		switch fence := strings.TrimSpace(line); {
		case !inside && fence == "```go":
			inside = true
			block.Reset()
		case inside && fence == "```":
			inside = false
			blocks = append(blocks, block.String())
		case inside:
			block.WriteString(line)
		}
	}
	return blocks
}

// flat removes indentation, and gives every line a newline on both sides.
func flat(text string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimSpace(line))
		b.WriteByte('\n')
	}
	return b.String()
}
