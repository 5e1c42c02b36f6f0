package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/reprise-go/reprise"

// A rule says what the packages at or below a path may depend on, directly or
// not. The first rule that matches a package holds for it; there is one for
// every package, since the last matches all.
type rule struct {
	path  string   // relative to the module; "." is the root package alone, "..." everything
	allow []string // import path prefixes beside the standard library; nil allows all
	deny  []string // import path prefixes, checked after allow
}

var (
	// What gRPC itself brings along.
	grpc = []string{
		"google.golang.org/grpc",
		"google.golang.org/protobuf",
		"google.golang.org/genproto/googleapis/rpc",
		"golang.org/x/net",
		"golang.org/x/sys/unix",
		"golang.org/x/text",
		module + "/internal",
	}
	// What the messages of etcd bring along.
	messages = with(grpc,
		"go.etcd.io/etcd/api/v3",
		"github.com/golang/protobuf",
		"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options",
		"google.golang.org/genproto/googleapis/api",
	)
	// What the etcd client brings along.
	client = with(messages,
		"go.etcd.io/etcd/client",
		"github.com/coreos",
		"go.uber.org/multierr",
		"go.uber.org/zap",
		"golang.org/x",
	)
	// What no package of the library may bring along.
	heavy = []string{
		"go.etcd.io/etcd/server",
		"go.etcd.io/raft",
		"go.etcd.io/bbolt",
		"go.opentelemetry.io/otel/sdk",
		"github.com/spf13",
		"testing",
	}
)

var rules = []rule{
	{path: ".", allow: grpc},
	{path: "serviceconfig", allow: with(grpc, module)},
	{path: "services", allow: with(grpc, module, module+"/services"), deny: []string{module + "/etcdcall"}},
	{path: "gaxcall", deny: with(heavy, "go.etcd.io", module+"/etcdcall", module+"/services")},
	// services imports testing: duplicate names are found in tests.
	{path: "otelcall/otelhealth", deny: with(without(heavy, "testing"), "go.etcd.io", "github.com/googleapis/gax-go", module+"/etcdcall")},
	{path: "otelcall", deny: with(heavy, "go.etcd.io", "github.com/googleapis/gax-go", module+"/etcdcall")},
	{path: "etcdcall/internal/completion", allow: with(messages, module+"/etcdcall/internal/keyrange")},
	{path: "etcdcall/internal/ending", allow: []string{}},
	{path: "etcdcall/internal/keyrange", allow: []string{}},
	{path: "etcdcall/internal/scan", allow: messages},
	{path: "etcdcall/internal/watch", allow: with(client, module, module+"/etcdcall/internal/ending")},
	{path: "etcdcall/internal/watchtest", allow: client},
	{path: "etcdcall/internal/zapslog", allow: []string{"go.uber.org/zap", "go.uber.org/multierr"}},
	{path: "etcdcall", deny: with(heavy, module+"/etcdcall/internal/watchtest", "github.com/googleapis/gax-go", "github.com/bufbuild", module+"/services")},
	{path: "cmd", deny: without(heavy, "testing")},
	{path: "...", deny: without(heavy, "testing")},
}

func TestEveryPackageDependsOnlyOnWhatItMay(t *testing.T) {
	t.Parallel()
	pkgs := list(t)
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module }) {
		t.Fatalf("go list did not name %s", module)
	}
	for _, p := range pkgs {
		for _, dep := range forbidden(p) {
			t.Errorf("%s depends on %s", p.ImportPath, dep)
		}
	}
	t.Logf("%d packages checked", len(pkgs))
}

func TestADependencyThatIsNotAllowedIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pkg, dep string }{
		{module, "go.etcd.io/etcd/client/v3"},
		{module, "go.opentelemetry.io/otel"},
		{module, "github.com/googleapis/gax-go/v2"},
		{module, module + "/etcdcall"},
		{module, "google.golang.org/grpcx"},
		{module + "/serviceconfig", "github.com/bufbuild/protocompile"},
		{module + "/services/servicetest", module + "/etcdcall"},
		{module + "/services", module + "/otelcall"},
		{module + "/etcdcall/concurrency", module + "/services"},
		{module + "/etcdcall", "go.etcd.io/etcd/server/v3/embed"},
		{module + "/etcdcall/internal/completion", module + "/etcdcall"},
		{module + "/etcdcall/internal/watch", module + "/etcdcall"},
		{module + "/etcdcall", module + "/etcdcall/internal/watchtest"},
		{module + "/etcdcall/internal/keyrange", "go.etcd.io/etcd/client/v3"},
		{module + "/cmd/reprise-gen", "github.com/spf13/cobra"},
		{module + "/internal/x", "go.etcd.io/bbolt"},
	} {
		got := forbidden(pkg{ImportPath: c.pkg, Deps: []string{"fmt", c.dep}})
		if !slices.Equal(got, []string{c.dep}) {
			t.Errorf("%s → %s: found %q", c.pkg, c.dep, got)
		}
	}
}

type pkg struct {
	ImportPath string   `json:"ImportPath"` //nolint:tagliatelle // as go list spells it
	Deps       []string `json:"Deps"`       //nolint:tagliatelle // as go list spells it
}

func list(t *testing.T) []pkg {
	t.Helper()
	// Outside the workspace, as a user of the library sees it.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Deps", module+"/...")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// forbidden returns the dependencies of p that its rule does not allow.
func forbidden(p pkg) []string {
	rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	i := slices.IndexFunc(rules, func(r rule) bool {
		return r.path == "..." || (r.path == "." && rel == "") || (rel != "" && below(rel, r.path))
	})
	r := rules[i]
	var out []string
	for _, dep := range p.Deps {
		refused := slices.ContainsFunc(r.deny, func(d string) bool { return below(dep, d) })
		switch {
		case refused, r.allow != nil && !standard(dep) && !allowed(dep, r.allow):
			out = append(out, dep)
		}
	}
	return out
}

func allowed(dep string, allow []string) bool {
	return slices.ContainsFunc(allow, func(a string) bool {
		return dep == a || (a != module && below(dep, a))
	})
}

// standard reports whether a path is the standard library's, whose first element
// has no dot; what it vendors counts as its own.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func below(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func with(list []string, more ...string) []string { return append(slices.Clone(list), more...) }

func without(list []string, less string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == less })
}
