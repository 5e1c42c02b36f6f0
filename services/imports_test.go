package services_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestThePackagesImportOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	const module = "github.com/reprise-go/reprise"
	for dir, allowed := range map[string][]string{
		".":           {module},
		"servicetest": {module + "/services"},
		"grpchealth":  {module + "/services", "google.golang.org/grpc/"},
	} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			checked++
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if !mayImport(path, allowed) {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
		if checked == 0 {
			t.Errorf("no files in %s", dir)
		}
	}
	for path, want := range map[string]bool{
		"net/http": true, module: true, module + "/etcdcall": false, "google.golang.org/grpc": false, "golang.org/x/sync": false,
	} {
		if mayImport(path, []string{module}) != want {
			t.Errorf("the rule is wrong for %s", path)
		}
	}
}

// mayImport allows the standard library, the paths named, and what lies below
// those that end in a slash.
func mayImport(path string, allowed []string) bool {
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return true
	}
	for _, a := range allowed {
		if path == a || (strings.HasSuffix(a, "/") && strings.HasPrefix(path, a)) {
			return true
		}
	}
	return false
}
