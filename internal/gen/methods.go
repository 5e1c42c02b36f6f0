package gen

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
)

// What the four kinds of methods have their own of: a unary method is a
// Unary, a server streaming method a ServerStream, which sends one request,
// and the others are Streams of the interface that their stub returns.
//
// protoc-gen-go-grpc names the interface of each stream. Since version 1.5 the
// name is an alias of a generic one; before, it was an interface of its own.
// The code made here compiles with both.

func (e *emitter) message(m *protogen.Message) string { return e.QualifiedGoIdent(m.GoIdent) }

// boundType returns the type that holds the calls of m.
func (e *emitter) boundType(m *protogen.Method) string {
	switch {
	case m.Desc.IsStreamingClient():
		return fmt.Sprintf("*%s[%s]", e.ident(reprisePackage, "Stream"), e.stream(m))
	case m.Desc.IsStreamingServer():
		return fmt.Sprintf("*%s[%s, %s]", e.ident(reprisePackage, "ServerStream"), e.message(m.Input), e.message(m.Output))
	}
	return fmt.Sprintf("*%s[%s, %s]", e.ident(reprisePackage, "Unary"), e.message(m.Input), e.message(m.Output))
}

// bind writes the field of a composite literal that binds the method m of the
// variable stub to its options in the variable o.
func (e *emitter) bind(m *protogen.Method, stub, o string) {
	switch {
	case m.Desc.IsStreamingClient():
		e.P(m.GoName, ": ", e.ident(reprisePackage, "NewStream"), "(", stub, ".", m.GoName, ",")
	case m.Desc.IsStreamingServer():
		// A function of its own, since the stub's may return another type
		// with the same methods.
		e.P(m.GoName, ": ", e.ident(reprisePackage, "NewServerStream"), "(")
		e.P("func(ctx ", e.ident(contextPackage, "Context"), ", req *", e.message(m.Input), ", opts ...",
			e.ident(grpcPackage, "CallOption"), ") (", e.result(m), ", error) {")
		e.P("return ", stub, ".", m.GoName, "(ctx, req, opts...)")
		e.P("},")
	default:
		e.P(m.GoName, ": ", e.ident(reprisePackage, "NewUnary"), "(", stub, ".", m.GoName, ",")
	}
	e.P(e.ident(reprisePackage, "WithMethod"), "(", strconv.Quote(fullMethod(m)), ", \"\"), ",
		e.ident(reprisePackage, "Options"), "(", o, ".", m.GoName, "...)),")
}

// verb returns the name of the method of a boundType that makes the call.
func (e *emitter) verb(m *protogen.Method) string {
	if m.Desc.IsStreamingClient() || m.Desc.IsStreamingServer() {
		return "Open"
	}
	return "Call"
}

// request returns the parameter and the argument that carry the request, both
// beginning with a comma, and nothing if requests go by a stream.
func (e *emitter) request(m *protogen.Method) (param, arg string) {
	if m.Desc.IsStreamingClient() {
		return "", ""
	}
	return ", req *" + e.message(m.Input), ", req"
}

// result returns the type of what a call of m returns beside the error.
func (e *emitter) result(m *protogen.Method) string {
	switch {
	case m.Desc.IsStreamingClient():
		return e.stream(m)
	case m.Desc.IsStreamingServer():
		return fmt.Sprintf("%s[%s]", e.ident(grpcPackage, "ServerStreamingClient"), e.message(m.Output))
	}
	return "*" + e.message(m.Output)
}

// plainResult is result for the method of the stub.
func (e *emitter) plainResult(m *protogen.Method) string {
	if m.Desc.IsStreamingClient() || m.Desc.IsStreamingServer() {
		return e.stream(m)
	}
	return e.result(m)
}

// local returns a name for a variable that hides no package of messages.
func (e *emitter) local(name string) string {
	for _, m := range e.service.Methods {
		for _, message := range []*protogen.Message{m.Input, m.Output} {
			if pkg, _, _ := strings.Cut(e.message(message), "."); pkg == name {
				return name + "_"
			}
		}
	}
	return name
}

// stream returns the name that protoc-gen-go-grpc gives to the stream of m.
func (e *emitter) stream(m *protogen.Method) string {
	return e.ident(e.file.GoImportPath, e.service.GoName+"_"+m.GoName+"Client")
}
