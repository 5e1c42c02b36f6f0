package gen

import (
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
)

// What the four kinds of methods have their own of: a unary method is a
// Unary, a server streaming method a ServerStream, which sends one request,
// and the others are Streams of the interface that their stub returns.

func (e *emitter) message(m *protogen.Message) string { return e.QualifiedGoIdent(m.GoIdent) }

// boundType returns the type that holds the calls of m.
func (e *emitter) boundType(m *protogen.Method) string {
	switch {
	case m.Desc.IsStreamingClient():
		return fmt.Sprintf("*%s[%s]", e.ident(reprisePackage, "Stream"), e.result(m))
	case m.Desc.IsStreamingServer():
		return fmt.Sprintf("*%s[%s, %s]", e.ident(reprisePackage, "ServerStream"), e.message(m.Input), e.message(m.Output))
	}
	return fmt.Sprintf("*%s[%s, %s]", e.ident(reprisePackage, "Unary"), e.message(m.Input), e.message(m.Output))
}

// constructor returns the name of the function that makes a boundType.
func (e *emitter) constructor(m *protogen.Method) string {
	switch {
	case m.Desc.IsStreamingClient():
		return "NewStream"
	case m.Desc.IsStreamingServer():
		return "NewServerStream"
	}
	return "NewUnary"
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
	in, out := e.message(m.Input), e.message(m.Output)
	switch {
	case m.Desc.IsStreamingClient() && m.Desc.IsStreamingServer():
		return fmt.Sprintf("%s[%s, %s]", e.ident(grpcPackage, "BidiStreamingClient"), in, out)
	case m.Desc.IsStreamingClient():
		return fmt.Sprintf("%s[%s, %s]", e.ident(grpcPackage, "ClientStreamingClient"), in, out)
	case m.Desc.IsStreamingServer():
		return fmt.Sprintf("%s[%s]", e.ident(grpcPackage, "ServerStreamingClient"), out)
	}
	return "*" + out
}
