// Package request makes the requests that protoc sends to its plugins, without
// protoc, and writes the files of their responses.
package request

import (
	"context"
	"errors"
	"slices"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/bufbuild/protocompile/reporter"
	_ "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options" // for imports, see New
	_ "google.golang.org/genproto/googleapis/api/annotations"                  // for imports, see New
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/pluginpb"
)

// New compiles files, given by their import paths, and returns the request to
// generate code for them, with parameter for the plugin. It reports all errors
// of the compiler at once.
//
// An import that no root has is taken from the descriptors that are linked into
// the program, if it is there: the standard ones, and google/api/annotations
// and the options of grpc-gateway, whose .proto files no Go module holds.
func New(ctx context.Context, roots []Root, parameter string, files ...string) (*pluginpb.CodeGeneratorRequest, error) {
	var errs []error
	compiler := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard,
		Reporter: reporter.NewReporter(func(err reporter.ErrorWithPos) error {
			errs = append(errs, err)
			return nil
		}, nil),
		Resolver: protocompile.CompositeResolver{
			protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
				f, err := open(roots, path)
				if err != nil {
					return protocompile.SearchResult{}, err
				}
				return protocompile.SearchResult{Source: f}, nil
			}),
			protocompile.WithStandardImports(protocompile.ResolverFunc(linkedIn)),
		},
	}
	compiled, err := compiler.Compile(ctx, files...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files, Parameter: new(parameter)}
	var paths []string
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if slices.Contains(paths, f.Path()) {
			return
		}
		paths = append(paths, f.Path())
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i))
		}
		request.ProtoFile = append(request.ProtoFile, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range compiled {
		add(f)
	}
	return request, nil
}

// linkedIn finds the descriptors that are linked into the program.
func linkedIn(path string) (protocompile.SearchResult, error) {
	f, err := protoregistry.GlobalFiles.FindFileByPath(path)
	return protocompile.SearchResult{Desc: f}, err
}
