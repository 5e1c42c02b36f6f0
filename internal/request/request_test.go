package request_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/pluginpb"

	"github.com/reprise-go/reprise/internal/request"
)

// tree writes files, given as path and content in turn, below a new directory.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, filepath.FromSlash(files[i]))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const head = "syntax = \"proto3\";\n"

func TestImportsAreFoundUnderTheirPrefixAndAmongWhatIsLinkedIn(t *testing.T) {
	t.Parallel()
	one := tree(t, "a.proto", head+`import "lib/b.proto"; import "google/api/annotations.proto"; import "google/protobuf/empty.proto";`,
		"b.proto", head+"message Wrong {}")
	two := tree(t, "below/b.proto", head+"// Right is here.\nmessage Right {}")
	req, err := request.New(t.Context(), []request.Root{{Dir: one}, {Prefix: "lib/", Dir: filepath.Join(two, "below")}},
		"p=1", "a.proto")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range req.ProtoFile {
		names = append(names, f.GetName())
	}
	want := []string{
		"lib/b.proto", "google/protobuf/descriptor.proto", "google/api/http.proto", "google/api/annotations.proto",
		"google/protobuf/empty.proto", "a.proto",
	}
	slices.Sort(names[1:3])
	slices.Sort(want[1:3])
	if !slices.Equal(names, want) {
		t.Errorf("got %v, want %v: each file after its imports", names, want)
	}
	right := req.ProtoFile[0]
	if right.MessageType[0].GetName() != "Right" {
		t.Errorf("the import with the prefix was taken from the wrong root: %v", right)
	}
	if !strings.Contains(right.SourceCodeInfo.String(), "Right is here.") {
		t.Error("the comments are lost")
	}
	if req.GetParameter() != "p=1" || !slices.Equal(req.FileToGenerate, []string{"a.proto"}) || req.CompilerVersion != nil {
		t.Errorf("got parameter %q, files %v, version %v", req.GetParameter(), req.FileToGenerate, req.CompilerVersion)
	}
}

func TestAModuleIsFoundByTheGoCommand(t *testing.T) {
	t.Parallel()
	root, err := request.ParseModuleRoot(t.Context(), "x/=google.golang.org/protobuf//types/known")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root.Dir, "emptypb", "empty.pb.go")); err != nil || root.Prefix != "x/" {
		t.Errorf("got %+v, %v", root, err)
	}
}

func TestNothingIsWrittenOfAnAnswerThatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, f := range []*pluginpb.CodeGeneratorResponse_File{
		{Name: new("../x.go")},
		{Name: new("/x.go")},
		{Name: new("")},
		{Name: new("x.go"), InsertionPoint: new("here")},
		{Name: new("first.go")}, // again
	} {
		resp := &pluginpb.CodeGeneratorResponse{File: []*pluginpb.CodeGeneratorResponse_File{
			{Name: new("first.go")}, f,
		}}
		if err := request.Write(dir, resp); err == nil {
			t.Errorf("%v was written", f)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("got %v, %v: want nothing written", entries, err)
	}
	if err := request.Write(dir, &pluginpb.CodeGeneratorResponse{Error: new("no")}); err == nil || err.Error() != "no" {
		t.Errorf("got %v, want the error of the response", err)
	}
}
