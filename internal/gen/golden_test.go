package gen_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/reprise-go/reprise/internal/gen"
	"github.com/reprise-go/reprise/internal/request"
)

const module = "github.com/reprise-go/reprise/internal/gen/gentest"

// goldens are the runs whose output is checked in, as the go:generate lines of
// gentest have them.
var goldens = []struct{ name, opt, file string }{
	{"no config", "module=" + module, "kinds.proto"},
	{"every field", "module=" + module + ",service_config=gentest/kinds.json,package=" + module + "/configured", "kinds.proto"},
	{"odd names", "module=" + module + ",service_config=gentest/codes/codes.json,suffix=_client,max_attempts=7", "codes/codes.proto"},
}

// newRequest compiles files of gentest.
func newRequest(t *testing.T, opt string, files ...string) *pluginpb.CodeGeneratorRequest {
	t.Helper()
	req, err := request.New(t.Context(), []request.Root{{Dir: "gentest"}}, opt, files...)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func respond(t *testing.T, req *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorResponse {
	t.Helper()
	resp, err := gen.Respond(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestTheOutputIsWhatIsCheckedIn(t *testing.T) {
	t.Parallel()
	for _, tt := range goldens {
		resp := respond(t, newRequest(t, tt.opt, tt.file))
		if len(resp.File) != 1 {
			t.Errorf("%s: got %d files, want 1: %s", tt.name, len(resp.File), resp.GetError())
		}
		if err := request.Check("gentest", resp); err != nil {
			t.Errorf("%s: %v; run go generate ./...", tt.name, err)
		}
	}
}

func TestTheExampleIsUpToDate(t *testing.T) {
	t.Parallel()
	const dir = "../../examples/orders"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the examples are a module of their own, which is not here")
	}
	req, err := request.New(t.Context(), []request.Root{{Dir: dir}},
		"paths=source_relative,service_config="+dir+"/orders.json", "orders.proto")
	if err != nil {
		t.Fatal(err)
	}
	resp := respond(t, req)
	if len(resp.File) != 1 {
		t.Errorf("got %d files, want 1: %s", len(resp.File), resp.GetError())
	}
	if err := request.Check(dir, resp); err != nil {
		t.Errorf("%v; run go generate ./... there", err)
	}
}

func TestTheOutputDependsOnTheSourcesAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range goldens {
		req := newRequest(t, tt.opt, tt.file)
		want := respond(t, req)
		for range 5 {
			if got := respond(t, req); !proto.Equal(got, want) {
				t.Errorf("%s: the same request gives another answer", tt.name)
			}
		}
		req.CompilerVersion = &pluginpb.Version{Major: proto.Int32(99)}
		if got := respond(t, req); !proto.Equal(got, want) {
			t.Errorf("%s: another version of the compiler gives another answer", tt.name)
		}
	}
}

func TestOneRunMayCoverSeveralFiles(t *testing.T) {
	t.Parallel()
	req := newRequest(t, "module="+module, "kinds.proto", "codes/codes.proto")
	var names []string
	for _, f := range respond(t, req).File {
		names = append(names, f.GetName())
	}
	if want := []string{"gentestreprise/kinds.reprise.go", "codes/codesreprise/codes.reprise.go"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	// The config speaks of one of the files alone.
	req = newRequest(t, "service_config=gentest/kinds.json,unused=ignore", "codes/codes.proto")
	if resp := respond(t, req); resp.Error != nil {
		t.Errorf("unused=ignore: %s", resp.GetError())
	}
}

func TestAllErrorsOfTheConfigComeAtOnce(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/errors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		resp := respond(t, newRequest(t, "service_config="+file, "kinds.proto"))
		want, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".err")
		if err != nil {
			t.Error(err)
		}
		if got := resp.GetError() + "\n"; got != string(want) {
			t.Errorf("%s:\ngot\n%swant\n%s", file, got, want)
		}
		if len(resp.File) != 0 {
			t.Errorf("%s: files came with the error", file)
		}
	}
}

func TestAWrongParameterIsExplained(t *testing.T) {
	t.Parallel()
	for opt, want := range map[string]string{
		"service_confg=x":            `unknown parameter "service_confg"`,
		"max_attempts=0":             `max_attempts=0: must be an integer of at least 1`,
		"max_attempts=many":          `max_attempts=many: must be an integer of at least 1`,
		"unused=yes":                 `unused=yes: the only value is "ignore"`,
		"suffix=a/b":                 `suffix=a/b: must be letters, digits and underscores`,
		"package=" + module:          `package=` + module + `: kinds.proto has its messages there`,
		"package=":                   `package=: must be an import path`,
		"package=;name":              `package=;name: must be an import path`,
		"package=example.com/x;":     `package=example.com/x;: must be an import path`,
		"package=example.com/x;type": `package=example.com/x;type: must be an import path`,
		"package=example.com/go-x":   `package=example.com/go-x: must be an import path, with ;name after it if its last element is no name for a package`,
		"service_config=":            `service_config=: must be the name of a file`,
		"service_config=nobody.json": `service config: open nobody.json`,
	} {
		resp, err := gen.Respond(newRequest(t, opt, "kinds.proto"))
		got := resp.GetError()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", opt, got, want)
		}
	}
}

func TestNamesThatWouldCollideAreRefused(t *testing.T) {
	t.Parallel()
	const head = "syntax = \"proto3\";\npackage p;\noption go_package = \"example.com/p\";\nmessage M {}\n"
	for want, text := range map[string]string{
		"p.proto: the service p.NewA needs the name NewAClient, which the service p.A has; rename one of them":   "service A { rpc Do(M) returns (M); }\nservice NewA { rpc Do(M) returns (M); }\n",
		"p.proto: the method p.A.AsAClient needs the name AsAClient, which the client has for itself; rename it": "service A { rpc AsAClient(M) returns (M); }\n",
		"": "service A { rpc Do(M) returns (M); }\nservice NewA {}\n",
	} {
		if got := respond(t, protos(t, "", "p.proto", head+text)).GetError(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// protos writes .proto files, given as path and content in turn, below a new
// directory, and returns the request for all of them.
func protos(t *testing.T, opt string, files ...string) *pluginpb.CodeGeneratorRequest {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for i := 0; i < len(files); i += 2 {
		names = append(names, files[i])
		file := filepath.Join(dir, filepath.FromSlash(files[i]))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	req, err := request.New(t.Context(), []request.Root{{Dir: dir}}, opt, names...)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestNoFileOverwritesAnother(t *testing.T) {
	t.Parallel()
	req := protos(t, "package=example.com/all",
		"a/p.proto", "syntax = \"proto3\";\noption go_package = \"example.com/a\";\nmessage M {}\nservice A { rpc Do(M) returns (M); }\n",
		"b/p.proto", "syntax = \"proto3\";\npackage b;\noption go_package = \"example.com/b\";\nmessage M {}\nservice B { rpc Do(M) returns (M); }\n")
	want := "b/p.proto: its code would overwrite that of a/p.proto in example.com/all/p.reprise.go; give them packages of their own"
	if resp := respond(t, req); resp.GetError() != want || len(resp.File) != 0 {
		t.Errorf("got %q and %d files, want %q", resp.GetError(), len(resp.File), want)
	}
}

func TestAPackageOfAFileWithoutOneIsDocumentedByItsPath(t *testing.T) {
	t.Parallel()
	req := protos(t, "", "a/p.proto",
		"syntax = \"proto3\";\noption go_package = \"example.com/a\";\nmessage M {}\nservice A { rpc Do(M) returns (M); }\n")
	want := "// Package areprise calls the services of a/p.proto with retries"
	if got := respond(t, req).GetFile()[0].GetContent(); !strings.Contains(got, want) {
		t.Errorf("%q is not in\n%s", want, got)
	}
}

func TestNoVariableHidesThePackageOfTheMessages(t *testing.T) {
	t.Parallel()
	text := "syntax = \"proto3\";\npackage p;\noption go_package = \"example.com/stub\";\nmessage M {}\n" +
		"service A { rpc Do(M) returns (stream M); }\n"
	req := protos(t, "", "p.proto", text)
	for _, want := range []string{"func NewAClient(stub_ stub.AClient, o *ACallOptions)", "return stub_.Do(ctx, req, opts...)"} {
		if got := respond(t, req).GetFile()[0].GetContent(); !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestAPackageMayHaveANameOfItsOwn(t *testing.T) {
	t.Parallel()
	resp := respond(t, newRequest(t, "package=example.com/x/go-client;client", "kinds.proto"))
	if len(resp.File) != 1 || resp.File[0].GetName() != "example.com/x/go-client/kinds.reprise.go" ||
		!strings.Contains(resp.File[0].GetContent(), "\npackage client\n") {
		t.Errorf("got %v", resp)
	}
	resp = respond(t, newRequest(t, "paths=source_relative", "codes/codes.proto"))
	if len(resp.File) != 1 || resp.File[0].GetName() != "codes/codesreprise/codes.reprise.go" {
		t.Errorf("with paths=source_relative: got %v", resp)
	}
}

func TestAFileWithoutServicesGivesNothing(t *testing.T) {
	t.Parallel()
	text := "syntax = \"proto2\";\npackage p;\noption go_package = \"example.com/p\";\nmessage M {}\nservice Nothing {}\n"
	req := protos(t, "", "p.proto", text)
	if resp := respond(t, req); resp.Error != nil || len(resp.File) != 0 {
		t.Errorf("got %v, want no file", resp)
	}
}
