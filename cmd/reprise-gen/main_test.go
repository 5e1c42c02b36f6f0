package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/reprise-go/reprise/internal/gen"
)

const (
	gentest = "../../internal/gen/gentest"
	module  = "github.com/reprise-go/reprise/internal/gen/gentest"
	config  = "service_config=" + gentest + "/kinds.json"
)

// asPlugin, in the environment, makes the test binary the plugin.
const asPlugin = "REPRISE_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		var opts gen.Options
		protogen.Options{ParamFunc: opts.Set}.Run(opts.Generate)
		return
	}
	os.Exit(m.Run())
}

func runIn(t *testing.T, args ...string) (stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var b bytes.Buffer
	err = run(ctx, args, &b)
	return b.String(), err
}

// configured are the arguments that write gentest/configured below dir.
func configured(dir string) []string {
	return []string{
		"-root", gentest, "-out", dir, "-opt", "module=" + module, "-opt", config,
		"-opt", "package=" + module + "/configured", "kinds.proto",
	}
}

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

func TestTheFilesAreWrittenWithoutACompiler(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if stderr, err := runIn(t, configured(dir)...); err != nil || stderr != "" {
		t.Fatalf("got %v, %s", err, stderr)
	}
	sameAsCheckedIn(t, dir)
}

func TestAFileMayBeNamedAsAShellCompletesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := configured(dir)
	args[len(args)-1] = "./" + args[len(args)-1]
	if stderr, err := runIn(t, args...); err != nil || stderr != "" {
		t.Fatalf("got %v, %s", err, stderr)
	}
	sameAsCheckedIn(t, dir)
}

func TestAnotherPluginCanBeRun(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := append([]string{"-plugin", "env " + asPlugin + "=1 " + self}, configured(dir)...)
	if stderr, err := runIn(t, args...); err != nil || stderr != "" {
		t.Fatalf("got %v, %s", err, stderr)
	}
	sameAsCheckedIn(t, dir)
	args[1] = "env " + asPlugin + "=1 " + self + " argument"
	if stderr, err := runIn(t, args...); err == nil || !strings.Contains(stderr, `unknown argument "argument"`) {
		t.Errorf("of a plugin that fails: got %v, %s", err, stderr)
	}
	args[1] = "echo text"
	if _, err := runIn(t, args...); err == nil || !strings.Contains(err.Error(), "its answer is no CodeGeneratorResponse") {
		t.Errorf("of a program that is no plugin: got %v", err)
	}
}

func TestCheckFindsFilesThatAreMissingOrOutOfDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := append([]string{"-check"}, configured(dir)...)
	name := filepath.Join(dir, "configured", "kinds.reprise.go")
	if _, err := runIn(t, check...); err == nil || err.Error() != name+": is missing" {
		t.Errorf("before the first run: got %v", err)
	}
	if _, err := runIn(t, configured(dir)...); err != nil {
		t.Fatal(err)
	}
	if _, err := runIn(t, check...); err != nil {
		t.Errorf("after it: got %v", err)
	}
	if err := os.WriteFile(name, []byte("package x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runIn(t, check...); err == nil || err.Error() != name+": is out of date" {
		t.Errorf("after an edit: got %v", err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "bad.proto"),
		[]byte("syntax = \"proto3\";\nmessage M { Nope n = 1; }\nmessage N { Nada n = 1; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"no .proto files given"}},
		{[]string{"-nope"}, []string{"flag provided but not defined: -nope"}},
		{[]string{"nobody.proto"}, []string{"nobody.proto", "file does not exist in any root"}},
		{[]string{"-root", "x="}, []string{`root "x=": no directory`}},
		{[]string{"-module", "x="}, []string{`root "x=": no directory`}},
		{[]string{"-module", "example.com/nobody", "x.proto"}, []string{"module example.com/nobody: "}},
		{[]string{"-root", bad, "bad.proto"}, []string{`bad.proto:2:13: field M.n: unknown type Nope`, `bad.proto:3:13: field N.n: unknown type Nada`}},
		{[]string{"-root", gentest, "-opt", "nope=1", "kinds.proto"}, []string{`unknown parameter "nope"`}},
		{[]string{"-root", gentest, "-out", filepath.Join(bad, "bad.proto"), "kinds.proto"}, []string{"bad.proto"}},
	} {
		_, err := runIn(t, tt.args...)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v:\ngot  %v\nwant %s", tt.args, err, want)
			}
		}
	}
}

func TestHelpIsNoFailureAndAnErrorIsToldOnce(t *testing.T) {
	t.Parallel()
	if stderr, err := runIn(t, "-h"); err != nil || !strings.Contains(stderr, "-root") {
		t.Errorf("-h: %v, %q", err, stderr)
	}
	stderr, err := runIn(t, "-nope")
	if err == nil || !strings.Contains(err.Error(), "-nope") || strings.Contains(stderr, "-nope") {
		t.Errorf("-nope: %v, and printed %q", err, stderr)
	}
	if stderr, err := runIn(t); err == nil || !strings.Contains(stderr, "-root") {
		t.Errorf("no files: %v, %q", err, stderr)
	}
}
