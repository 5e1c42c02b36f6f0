// Reprise-gen generates what protoc-gen-go-reprise generates, without protoc.
//
//	reprise-gen -opt service_config=orders.json orders.proto
//
// It compiles the .proto files itself. It can also run other plugins, so that a
// Go module needs no compiler for its .proto files at all:
//
//	reprise-gen -plugin "go tool protoc-gen-go" -opt paths=source_relative orders.proto
//
// Imports are looked for in the current directory or, if -root or -module is
// given, in the places that these name, in their order. docs/codegen.md has
// more.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/reprise-go/reprise/internal/gen"
	"github.com/reprise-go/reprise/internal/request"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	var roots []request.Root
	var params []string
	flags := flag.NewFlagSet("reprise-gen", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is returned, and main prints it
	usage := func() {
		fmt.Fprintln(stderr, "usage: reprise-gen [flags] file.proto ...")
		flags.SetOutput(stderr)
		flags.PrintDefaults()
	}
	out := flags.String("out", ".", "write below this `directory`")
	plugin := flags.String("plugin", "", "run this `command` as the plugin instead of protoc-gen-go-reprise")
	check := flags.Bool("check", false, "write nothing and fail if a file is out of date")
	flags.Func("opt", "pass these comma-separated `parameters` to the plugin (repeatable)", func(text string) error {
		params = append(params, text)
		return nil
	})
	flags.Func("root", "look for imports in `[prefix=]dir` (repeatable)", func(text string) error {
		root, err := request.ParseRoot(text)
		roots = append(roots, root)
		return err
	})
	flags.Func("module", "look for imports in the Go module `[prefix=]path[//dir]` (repeatable)", func(text string) error {
		root, err := request.ParseModuleRoot(ctx, text)
		roots = append(roots, root)
		return err
	})
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		usage()
		return nil
	case err != nil:
		return fmt.Errorf("%w (reprise-gen -h lists the flags)", err)
	case flags.NArg() == 0:
		usage()
		return fmt.Errorf("no .proto files given")
	}
	if len(roots) == 0 {
		roots = []request.Root{{Dir: "."}}
	}
	var files []string
	for _, name := range flags.Args() {
		files = append(files, path.Clean(filepath.ToSlash(name))) // a shell completes to ./orders.proto
	}
	req, err := request.New(ctx, roots, strings.Join(params, ","), files...)
	if err != nil {
		return err
	}
	response, err := generate(ctx, *plugin, req, stderr)
	if err != nil {
		return err
	}
	if *check {
		return request.Check(*out, response)
	}
	return request.Write(*out, response)
}

// generate answers req by the command plugin, or in the process if there is
// none.
func generate(
	ctx context.Context, plugin string, req *pluginpb.CodeGeneratorRequest, stderr io.Writer,
) (*pluginpb.CodeGeneratorResponse, error) {
	words := strings.Fields(plugin)
	if len(words) == 0 {
		return gen.Respond(req)
	}
	in, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Stdin, command.Stderr = bytes.NewReader(in), stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", plugin, err)
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, response); err != nil {
		return nil, fmt.Errorf("%s: its answer is no CodeGeneratorResponse: %w", plugin, err)
	}
	return response, nil
}
