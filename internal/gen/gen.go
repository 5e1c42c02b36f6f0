// Package gen generates clients that call gRPC services through Reprise. It is
// what protoc-gen-go-reprise and reprise-gen have in common.
package gen

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/reprise-go/reprise/serviceconfig"
)

// Options are the parameters of the plugin. [Options.Set] says what each
// means.
type Options struct {
	config       string // file name of the service config
	pkg          foreignPackage
	suffix       string
	attemptLimit int
	ignoreUnused bool
}

// Set sets the parameter name to value:
//
//   - service_config: the file that holds the gRPC service config.
//   - package: the import path of the generated package, with ";name" after it
//     if its name is not the last element of the path. Its documentation is left
//     to a file written by hand. Without this parameter, the package lies in a
//     directory below that of the messages, named after their package and the
//     suffix.
//   - suffix: what the name of that directory ends with; "reprise" if not set.
//   - max_attempts: the client's limit of attempts; 5 if not set (gRPC A6).
//   - unused: "ignore" lets the config name services that are not generated.
func (o *Options) Set(name, value string) error {
	switch name {
	case "service_config":
		if value == "" {
			return errors.New("service_config=: must be the name of a file")
		}
		o.config = value
	case "package":
		pkg, err := parseForeignPackage(value)
		if err != nil {
			return err
		}
		o.pkg = pkg
	case "suffix":
		if !protoreflect.Name(value).IsValid() {
			return fmt.Errorf("suffix=%s: must be letters, digits and underscores", value)
		}
		o.suffix = value
	case "max_attempts":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("max_attempts=%s: must be an integer of at least 1", value)
		}
		o.attemptLimit = n
	case "unused":
		if value != "ignore" {
			return fmt.Errorf(`unused=%s: the only value is "ignore"`, value)
		}
		o.ignoreUnused = true
	default:
		return fmt.Errorf("unknown parameter %q", name)
	}
	return nil
}

// Generate adds to p a file for each file to generate that has a service with methods. It
// reports everything that is wrong with the service config at once.
func (o *Options) Generate(p *protogen.Plugin) error {
	p.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL |
		pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS)
	p.SupportedEditionsMinimum = descriptorpb.Edition_EDITION_PROTO2
	p.SupportedEditionsMaximum = descriptorpb.Edition_EDITION_2024

	var services []protoreflect.ServiceDescriptor
	var files []*protogen.File
	for _, f := range p.Files {
		if !f.Generate {
			continue
		}
		for _, s := range f.Services {
			services = append(services, s.Desc)
		}
		if slices.ContainsFunc(f.Services, hasMethods) {
			files = append(files, f)
		}
	}
	policies, err := o.policies(services)
	if err != nil {
		return err
	}
	packages := make(map[protogen.GoImportPath]*outputPackage)
	sources := make(map[string]string) // of the files that are written
	for _, f := range files {
		out, err := o.outputOf(f)
		if err != nil {
			return err
		}
		if other, taken := sources[out.file]; taken {
			return fmt.Errorf("%s: its code would overwrite that of %s in %s; give them packages of their own",
				f.Desc.Path(), other, out.file)
		}
		sources[out.file] = f.Desc.Path()
		if packages[out.path] == nil {
			packages[out.path] = newOutputPackage()
		}
		if err := packages[out.path].declare(f); err != nil {
			return err
		}
		emitFile(p, f, out, policies, packages[out.path].files == 1)
	}
	return nil
}

func hasMethods(s *protogen.Service) bool { return len(s.Methods) > 0 }

// policies reads the service config and checks it against the services that
// are generated.
func (o *Options) policies(services []protoreflect.ServiceDescriptor) (*policies, error) {
	if o.config == "" {
		return &policies{}, nil
	}
	data, err := os.ReadFile(o.config)
	if err != nil {
		return nil, fmt.Errorf("service config: %w", err)
	}
	c, err := serviceconfig.ParseStrict(o.config, data)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		serviceconfig.CheckNames(c, services, o.ignoreUnused),
		serviceconfig.CheckStreams(c, services))
	if err != nil {
		return nil, err
	}
	c.AttemptLimit = o.attemptLimit
	return &policies{config: c}, nil
}

// Respond answers a request as protoc-gen-go-reprise does.
func Respond(req *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	var opts Options
	p, err := protogen.Options{ParamFunc: opts.Set}.New(req)
	if err != nil {
		return nil, err
	}
	if err := opts.Generate(p); err != nil {
		p.Error(err)
	}
	return p.Response(), nil
}
