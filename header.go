package reprise

import (
	"context"
	"net/http"
	"net/textproto"
	"runtime"
	"strings"
	"unicode"

	"google.golang.org/grpc/metadata"
)

// Version is the version of this module.
const Version = "0.1.0"

// GoVersion is the version of the Go runtime in a form that fits a header
// value: no spaces, three numbers ("1.26.0"), a pre-release after a dash, a
// development version as its commit, "UNKNOWN" if there is none.
var GoVersion = headerVersion(runtime.Version())

// xGoogAPIClient is the metadata key whose values are merged into one.
const xGoogAPIClient = "x-goog-api-client"

// XGoogHeader formats pairs of a key and a value as "key/value key/value", the
// form of the x-goog-api-client header. A last key without a value is given
// an empty one.
func XGoogHeader(keyval ...string) string {
	var b strings.Builder
	for i, s := range keyval {
		switch {
		case i == 0:
		case i%2 == 0:
			b.WriteByte(' ')
		default:
			b.WriteByte('/')
		}
		b.WriteString(s)
	}
	if len(keyval)%2 == 1 {
		b.WriteByte('/')
	}
	return b.String()
}

// InsertMetadataIntoOutgoingContext returns a copy of ctx whose outgoing gRPC
// metadata has the pairs of keyvals added to what is there. No value is lost:
// keys are folded to lower case, values of equal keys are kept in order, and
// those of x-goog-api-client, old and new, are joined by spaces into one. A
// last key without a value is given an empty one. A nil ctx counts as
// [context.Background].
func InsertMetadataIntoOutgoingContext(ctx context.Context, keyvals ...string) context.Context {
	if ctx == nil {
		ctx = context.Background()
	}
	return metadata.NewOutgoingContext(ctx, mergeMetadata(ctx, keyvals))
}

// BuildHeaders returns the outgoing gRPC metadata of ctx with the pairs of
// keyvals added, by the rules of [InsertMetadataIntoOutgoingContext], as HTTP
// headers with canonical names, so that Get finds them.
func BuildHeaders(ctx context.Context, keyvals ...string) http.Header {
	if ctx == nil {
		ctx = context.Background()
	}
	md := mergeMetadata(ctx, keyvals)
	h := make(http.Header, len(md))
	for k, v := range md {
		h[textproto.CanonicalMIMEHeaderKey(k)] = v
	}
	return h
}

func mergeMetadata(ctx context.Context, keyvals []string) metadata.MD {
	md, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		md = metadata.MD{}
	}
	for i := 0; i < len(keyvals); i += 2 {
		value := ""
		if i+1 < len(keyvals) {
			value = keyvals[i+1]
		}
		md.Append(keyvals[i], value)
	}
	if v := md[xGoogAPIClient]; len(v) > 1 {
		md[xGoogAPIClient] = []string{strings.Join(v, " ")}
	}
	return md
}

// headerVersion turns what [runtime.Version] returns into a [GoVersion].
func headerVersion(v string) string {
	const unknown = "UNKNOWN"
	v, devel := strings.CutPrefix(v, "devel ")
	if devel {
		v = strings.TrimPrefix(v, "+")
	}
	if i := strings.IndexFunc(v, unicode.IsSpace); i >= 0 {
		v = v[:i]
	}
	if devel && v != "" {
		return v
	}
	v, ok := strings.CutPrefix(v, "go")
	if !ok || v == "" || v[0] < '0' || v[0] > '9' {
		return unknown
	}
	release, rest := v, ""
	if i := strings.IndexFunc(v, func(r rune) bool { return r != '.' && !unicode.IsDigit(r) }); i >= 0 {
		release, rest = v[:i], v[i:]
	}
	release = strings.TrimSuffix(release, ".")
	for strings.Count(release, ".") < 2 {
		release += ".0"
	}
	if rest != "" && rest[0] != '-' {
		rest = "-" + rest
	}
	return release + rest
}
