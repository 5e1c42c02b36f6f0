package gen

import (
	"fmt"
	"go/token"
	"path"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
)

// An output says where the code of one .proto file goes.
type output struct {
	path protogen.GoImportPath
	name protogen.GoPackageName
	file string

	// foreign: the user named the package, and documents it.
	foreign bool
}

// A foreignPackage is one that the user named.
type foreignPackage struct{ path, name string }

// parseForeignPackage reads path;name, where the name may be left out if it is
// the last element of the path.
func parseForeignPackage(text string) (foreignPackage, error) {
	importPath, name, named := strings.Cut(text, ";")
	if !named {
		name = path.Base(importPath)
	}
	if importPath == "" || !token.IsIdentifier(name) {
		return foreignPackage{}, fmt.Errorf("package=%s: must be an import path, with ;name after it "+
			"if its last element is no name for a package", text)
	}
	return foreignPackage{importPath, name}, nil
}

// outputOf places the code of f. The package of the messages cannot hold it:
// the names that protoc-gen-go-grpc declares there are the same.
func (o *Options) outputOf(f *protogen.File) (output, error) {
	base := path.Base(f.GeneratedFilenamePrefix) + ".reprise.go"
	if o.pkg.path != "" {
		out := output{
			path: protogen.GoImportPath(o.pkg.path),
			name: protogen.GoPackageName(o.pkg.name),
			file: path.Join(o.pkg.path, base),

			foreign: true,
		}
		if out.path == f.GoImportPath {
			return output{}, fmt.Errorf("package=%s: %s has its messages there, and the stubs of protoc-gen-go-grpc "+
				"have the same names; choose another package", o.pkg.path, f.Desc.Path())
		}
		return out, nil
	}
	suffix := o.suffix
	if suffix == "" {
		suffix = "reprise"
	}
	name := string(f.GoPackageName) + suffix
	return output{
		path: protogen.GoImportPath(path.Join(string(f.GoImportPath), name)),
		name: protogen.GoPackageName(name),
		file: path.Join(path.Dir(f.GeneratedFilenamePrefix), name, base),
	}, nil
}

// An outputPackage knows what is declared in a package that is generated.
type outputPackage struct {
	files    int
	declared map[string]string // name → full name of the service that it is for
}

func newOutputPackage() *outputPackage {
	return &outputPackage{declared: make(map[string]string)}
}

// declare notes the names that the services of f need. It fails if two
// services need the same, as services A and NewA do.
func (p *outputPackage) declare(f *protogen.File) error {
	p.files++
	for _, s := range f.Services {
		if !hasMethods(s) {
			continue
		}
		full := string(s.Desc.FullName())
		n := namesOf(s)
		for _, name := range []string{n.client, n.newClient, n.options, n.defaults, n.throttle} {
			if other, taken := p.declared[name]; taken {
				return fmt.Errorf("%s: the service %s needs the name %s, which the service %s has; rename one of them",
					f.Desc.Path(), full, name, other)
			}
			p.declared[name] = full
		}
		for _, m := range s.Methods {
			if m.GoName == n.as {
				return fmt.Errorf("%s: the method %s needs the name %s, which the client has for itself; rename it",
					f.Desc.Path(), m.Desc.FullName(), n.as)
			}
		}
	}
	return nil
}

// serviceNames are what the code of a service declares.
type serviceNames struct {
	client, newClient, options, defaults, throttle, as string
	bound, plain                                       string
}

func namesOf(s *protogen.Service) serviceNames {
	return serviceNames{
		client:    s.GoName + "Client",
		newClient: "New" + s.GoName + "Client",
		options:   s.GoName + "CallOptions",
		defaults:  "Default" + s.GoName + "CallOptions",
		throttle:  "Default" + s.GoName + "Throttle",
		as:        "As" + s.GoName + "Client",
		bound:     "bound" + s.GoName,
		plain:     "plain" + s.GoName,
	}
}
