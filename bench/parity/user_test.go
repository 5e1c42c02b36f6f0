package parity

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/bench/parity/gaxuser"
	"github.com/reprise-go/reprise/bench/parity/repriseuser"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The names that gax-go 2.0.4 exports.
var names204 = []string{
	"APICall", "Backoff", "CallOption", "CallSettings", "Invoke", "OnCodes", "Retryer",
	"Sleep", "Version", "WithGRPCOptions", "WithRetry", "XGoogHeader",
}

func TestTheTwoUsersDifferInNothingButTheImportPath(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?s)^.*?\npackage \w+\n`).ReplaceAllString(string(text), "")
	}
	want := strings.Replace(read("gaxuser/user.go"),
		`gax "github.com/googleapis/gax-go/v2"`, `gax "github.com/reprise-go/reprise"`, 1)
	if got := read("repriseuser/user.go"); got != want {
		t.Error("repriseuser/user.go is not gaxuser/user.go with the import path changed")
	}
}

func TestTheUserUsesEveryNameOfVersion204(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "repriseuser/user.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == "gax" {
				used[sel.Sel.Name] = true
			}
		}
		return true
	})
	got := make([]string, 0, len(used))
	for name := range used {
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, names204) {
		t.Errorf("used %q, want %q", got, names204)
	}
}

// A user is the same code compiled against one of the libraries.
type user struct {
	name                    string
	get, twiceAgain, single func(ctx context.Context, rpc rpc) (string, error)
	poll                    func(ctx context.Context, timeout time.Duration, rpc func(context.Context) (string, error)) (string, error)
	header                  func() string
}

type rpc func(ctx context.Context, opts ...grpc.CallOption) (string, error)

var users = []user{
	{
		name:       "gax-go",
		get:        func(ctx context.Context, r rpc) (string, error) { return gaxuser.NewClient(r).Get(ctx) },
		twiceAgain: func(ctx context.Context, r rpc) (string, error) { return gaxuser.NewClient(r).GetTwiceAgain(ctx) },
		single:     func(ctx context.Context, r rpc) (string, error) { return gaxuser.NewClient(r).GetOnce(ctx) },
		poll:       gaxuser.Poll,
		header:     gaxuser.APIClientHeader,
	},
	{
		name:       "Reprise",
		get:        func(ctx context.Context, r rpc) (string, error) { return repriseuser.NewClient(r).Get(ctx) },
		twiceAgain: func(ctx context.Context, r rpc) (string, error) { return repriseuser.NewClient(r).GetTwiceAgain(ctx) },
		single:     func(ctx context.Context, r rpc) (string, error) { return repriseuser.NewClient(r).GetOnce(ctx) },
		poll:       repriseuser.Poll,
		header:     repriseuser.APIClientHeader,
	},
}

func TestAUserOfVersion204SeesTheSameFromBoth(t *testing.T) {
	t.Parallel()
	for _, u := range users {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			if got, want := u.header(), "gl-go/1.26.0 gax/true"; got != want {
				t.Errorf("header: got %q, want %q", got, want)
			}
			t.Run("Get retries by code and forwards the options", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, options := failing(3, codes.Unavailable, codes.Unknown)
					got, err := u.get(t.Context(), calls.rpc)
					if got != "answer" || err != nil || calls.made != 4 || *options != 1 {
						t.Errorf("got %q, %v after %d attempts with %d options", got, err, calls.made, *options)
					}
				})
			})
			t.Run("Get returns an error that is not listed", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, _ := failing(3, codes.NotFound)
					_, err := u.get(t.Context(), calls.rpc)
					if status.Code(err) != codes.NotFound || calls.made != 1 {
						t.Errorf("got %v after %d attempts", err, calls.made)
					}
				})
			})
			t.Run("a Retryer and an option of the user's own are used", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, options := failing(9, codes.NotFound)
					_, err := u.twiceAgain(t.Context(), calls.rpc)
					if status.Code(err) != codes.NotFound || calls.made != 3 || *options != 2 {
						t.Errorf("got %v after %d attempts with %d options", err, calls.made, *options)
					}
				})
			})
			t.Run("WithRetry(nil) switches retrying off", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, _ := failing(9, codes.Unavailable)
					_, err := u.single(t.Context(), calls.rpc)
					if status.Code(err) != codes.Unavailable || calls.made != 1 {
						t.Errorf("got %v after %d attempts", err, calls.made)
					}
				})
			})
			t.Run("a Retryer without Invoke", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, _ := failing(2, codes.Unavailable)
					got, err := u.poll(t.Context(), time.Hour, func(ctx context.Context) (string, error) { return calls.rpc(ctx) })
					if got != "answer" || err != nil || calls.made != 3 {
						t.Errorf("got %q, %v after %d attempts", got, err, calls.made)
					}
				})
			})
			t.Run("Sleep ends with the context", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls, _ := failing(1<<30, codes.Unavailable)
					start := time.Now()
					_, err := u.poll(t.Context(), time.Minute, func(ctx context.Context) (string, error) { return calls.rpc(ctx) })
					if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != time.Minute {
						t.Errorf("got %v after %v", err, took)
					}
				})
			})
		})
	}
}

// calls counts the attempts of an RPC that fails at first.
type calls struct {
	made int
	rpc  rpc
}

// failing returns an RPC that fails n times, with the codes in turn, and where
// the number of options of its last attempt is written.
func failing(n int, cc ...codes.Code) (*calls, *int) {
	c, options := new(calls), new(int)
	c.rpc = func(_ context.Context, opts ...grpc.CallOption) (string, error) {
		c.made++
		*options = len(opts)
		if c.made <= n {
			return "", status.Error(cc[(c.made-1)%len(cc)], "scripted")
		}
		return "answer", nil
	}
	return c, options
}
