package reprise

import (
	"context"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
)

func TestXGoogHeader(t *testing.T) {
	t.Parallel()
	for want, keyval := range map[string][]string{
		"":                 nil,
		"gl-go/1.26.0":     {"gl-go", "1.26.0"},
		"gl-go/1 gax/2":    {"gl-go", "1", "gax", "2"},
		"gl-go/1 gax/":     {"gl-go", "1", "gax"},
		"lone/":            {"lone"},
		"a/ /b":            {"a", "", "", "b"},
		"gl-go/1 a/b gx/3": {"gl-go", "1", "a", "b", "gx", "3"},
	} {
		if got := XGoogHeader(keyval...); got != want {
			t.Errorf("XGoogHeader(%q) = %q, want %q", keyval, got, want)
		}
	}
}

func TestMetadataIsMergedWithoutLoss(t *testing.T) {
	t.Parallel()
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{
		"x-goog-api-client": {"old/1"}, "user": {"alice"},
	})
	ctx = metadata.AppendToOutgoingContext(ctx, "X-Goog-Api-Client", "older/2")
	keyvals := []string{"X-Goog-Api-Client", "gax/1", "x-goog-api-client", "gl-go/2", "USER", "bob", "X-Goog-Foo", "bar", "odd"}

	md, _ := metadata.FromOutgoingContext(InsertMetadataIntoOutgoingContext(ctx, keyvals...))
	want := metadata.MD{
		"x-goog-api-client": {"old/1 older/2 gax/1 gl-go/2"},
		"user":              {"alice", "bob"}, "x-goog-foo": {"bar"}, "odd": {""},
	}
	if !reflect.DeepEqual(md, want) {
		t.Errorf("got  %v\nwant %v", md, want)
	}
	if was, _ := metadata.FromOutgoingContext(ctx); len(was["user"]) != 1 {
		t.Error("the context passed in was changed")
	}

	h := BuildHeaders(ctx, keyvals...)
	if got := h.Get("x-goog-foo"); got != "bar" {
		t.Errorf("Get finds %q: the names are not canonical: %v", got, h)
	}
	if got := h.Get("X-Goog-Api-Client"); got != "old/1 older/2 gax/1 gl-go/2" {
		t.Errorf("x-goog-api-client is %q", got)
	}
}

func TestMetadataOfANilContext(t *testing.T) {
	t.Parallel()
	var ctx context.Context
	if got := BuildHeaders(ctx, "a", "b").Get("a"); got != "b" {
		t.Errorf("got %q", got)
	}
	md, ok := metadata.FromOutgoingContext(InsertMetadataIntoOutgoingContext(ctx))
	if !ok || len(md) != 0 {
		t.Errorf("got %v, %v", md, ok)
	}
}

func TestGoVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"go1.26.8":                       "1.26.8",
		"go1.26":                         "1.26.0",
		"go1":                            "1.0.0",
		"go1.21rc2":                      "1.21.0-rc2",
		"go1.8.":                         "1.8.0",
		"go1.26.8 X:nodwarf5":            "1.26.8",
		"go1.26.8-custom":                "1.26.8-custom",
		"devel +8a6f9d5 Fri Nov 20 2026": "8a6f9d5",
		"devel go1.27-8a6f9d5 Fri Nov":   "go1.27-8a6f9d5",
		"devel ":                         "UNKNOWN",
		"weird":                          "UNKNOWN",
		"gopher":                         "UNKNOWN",
		"go":                             "UNKNOWN",
		"":                               "UNKNOWN",
	} {
		if got := headerVersion(version); got != want {
			t.Errorf("headerVersion(%q) = %q, want %q", version, got, want)
		}
	}
	if GoVersion == "UNKNOWN" || strings.ContainsAny(GoVersion, " \t") {
		t.Errorf("GoVersion = %q of %q", GoVersion, runtime.Version())
	}
}

func FuzzGoVersion(f *testing.F) {
	f.Add("go1.26.8")
	f.Add("devel +8a6f9d5 Fri")
	f.Fuzz(func(t *testing.T, v string) {
		if got := headerVersion(v); got == "" || strings.ContainsAny(got, " \t\n\v\f\r") {
			t.Errorf("headerVersion(%q) = %q", v, got)
		}
	})
}
