package concurrency_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"github.com/reprise-go/reprise/etcdcall/concurrency"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// TestEveryNameOfClientv3IsHereWithItsSignature reads the sources of both
// packages.
func TestEveryNameOfClientv3IsHereWithItsSignature(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "go.etcd.io/etcd/client/v3/concurrency").Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := exported(t, strings.TrimSpace(string(dir))), exported(t, ".")
	// It takes the options of the package, and of no package else; a logger is
	// not among its parameters here.
	delete(theirs, "type SessionOption")
	if len(theirs) < 40 {
		t.Fatalf("only %d names were found", len(theirs))
	}
	for name, signature := range theirs {
		if got, ok := ours[name]; !ok || got != signature {
			t.Errorf("%s: got %q, want %q", name, got, signature)
		}
	}
}

// exported returns the exported names of a package with their signatures.
func exported(t *testing.T, dir string) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	pkgs, err := parser.ParseDir(fset, dir, func(f fs.FileInfo) bool { //nolint:staticcheck // no build constraints here
		return !strings.HasSuffix(f.Name(), "_test.go")
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	for _, file := range pkgs["concurrency"].Files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
					names["func "+receiver(d)+d.Name.Name] = types(t, fset, d.Type)
				}
			case *ast.GenDecl:
				exportedSpecs(d, names)
			}
		}
	}
	return names
}

func exportedSpecs(d *ast.GenDecl, names map[string]string) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				names["type "+s.Name.Name] = ""
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() {
					names[d.Tok.String()+" "+n.Name] = ""
				}
			}
		}
	}
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	return typ.(*ast.Ident).Name + "."
}

// types prints a signature without the names of parameters.
func types(t *testing.T, fset *token.FileSet, f *ast.FuncType) string {
	t.Helper()
	var out bytes.Buffer
	for _, list := range []*ast.FieldList{f.Params, f.Results} {
		out.WriteByte('(')
		if list != nil {
			for _, field := range list.List {
				for range max(1, len(field.Names)) {
					if err := printer.Fprint(&out, fset, field.Type); err != nil {
						t.Fatal(err)
					}
					out.WriteByte(',')
				}
			}
		}
		out.WriteByte(')')
	}
	return out.String()
}

// The interface that users of clientv3 program against.
var (
	_ interface {
		Lock(ctx context.Context) error
		TryLock(ctx context.Context) error
		Unlock(ctx context.Context) error
		IsOwner() v3.Cmp
		Key() string
		Header() *pb.ResponseHeader
	} = (*concurrency.Mutex)(nil)
	_ interface {
		Campaign(ctx context.Context, val string) error
		Observe(ctx context.Context) <-chan *v3.GetResponse
	} = (*concurrency.Election)(nil)
	_ = func(s concurrency.STM) {
		s.Put("key", s.Get("a", "b"), v3.WithLease(1))
		s.Del("key")
		_ = s.Rev("key")
	}
)
