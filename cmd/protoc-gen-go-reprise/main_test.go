package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/reprise-go/reprise/internal/request"
)

const (
	gentest = "../../internal/gen/gentest"
	module  = "github.com/reprise-go/reprise/internal/gen/gentest"
	config  = gentest + "/kinds.json"
	opt     = "module=" + module + ",service_config=" + config + ",package=" + module + "/configured"
)

// asPlugin, in the environment, makes the test binary the plugin.
const asPlugin = "REPRISE_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// answer runs the plugin as protoc does.
func answer(t *testing.T, opt string) *pluginpb.CodeGeneratorResponse {
	t.Helper()
	req, err := request.New(t.Context(), []request.Root{{Dir: gentest}}, opt, "kinds.proto")
	if err != nil {
		t.Fatal(err)
	}
	in, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	plugin := exec.CommandContext(t.Context(), self)
	plugin.Env = append(os.Environ(), asPlugin+"=1")
	plugin.Stdin = bytes.NewReader(in)
	plugin.Stderr = os.Stderr
	out, err := plugin.Output()
	if err != nil {
		t.Fatal(err)
	}
	resp := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestThePluginAnswersOnItsStandardOutput(t *testing.T) {
	t.Parallel()
	resp := answer(t, opt)
	if resp.Error != nil || len(resp.File) != 1 {
		t.Fatalf("got %d files, error %q", len(resp.File), resp.GetError())
	}
	if err := request.Check(gentest, resp); err != nil {
		t.Error(err)
	}
	const features = pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL |
		pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS
	if got := resp.GetSupportedFeatures(); got != uint64(features) {
		t.Errorf("supported features: got %b, want %b", got, features)
	}
}

func TestThePluginReportsErrorsInItsAnswer(t *testing.T) {
	t.Parallel()
	resp := answer(t, "service_config=../../internal/gen/testdata/errors/names.json")
	if want := `unknown service "gentest.v1.Kind"; did you mean "gentest.v1.Kinds"?`; !strings.Contains(resp.GetError(), want) {
		t.Errorf("got %q, want %q", resp.GetError(), want)
	}
}

// script writes a program that runs the test binary as the plugin, for tools
// that run it themselves.
func script(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "protoc-gen-go-reprise")
	text := "#!/bin/sh\n" + asPlugin + "=1 exec '" + self + "'\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// sameAsCheckedIn compares what a compiler had the plugin write below dir.
func sameAsCheckedIn(t *testing.T, dir string) {
	t.Helper()
	const name = "configured/kinds.reprise.go"
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(gentest, name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the output differs from %s", name)
	}
}

func TestProtocGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		t.Skip("protoc is not installed")
	}
	dir := t.TempDir()
	command(t, "", protoc, "--plugin=protoc-gen-go-reprise="+script(t, dir), "-I"+gentest,
		"--go-reprise_out="+dir, "--go-reprise_opt="+opt, "kinds.proto")
	sameAsCheckedIn(t, dir)
}

func TestBufGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	buf, err := exec.LookPath("buf")
	if err != nil {
		t.Skip("buf is not installed")
	}
	dir := t.TempDir()
	input, err := filepath.Abs(gentest)
	if err != nil {
		t.Fatal(err)
	}
	text := "version: v2\nplugins:\n  - local: " + script(t, dir) + "\n    out: " + dir + "\n    opt:\n"
	for o := range strings.SplitSeq(strings.ReplaceAll(opt, config, filepath.Join(input, "kinds.json")), ",") {
		text += "      - " + o + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "buf.gen.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, dir, buf, "generate", input, "--path", filepath.Join(input, "kinds.proto"))
	sameAsCheckedIn(t, dir)
}
