package serviceconfig_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/reprise-go/reprise/serviceconfig"
)

// What grpc-go makes of a config is in no other types.
type (
	grpcConfig = grpc.ServiceConfig //nolint:staticcheck // see above
	grpcMethod = grpc.MethodConfig  //nolint:staticcheck // see above
)

// grpcParser returns the parser of grpc-go, which a name resolver may use.
func grpcParser(t testing.TB) func(doc string) (*grpcConfig, error) {
	t.Helper()
	r := manual.NewBuilderWithScheme("oracle")
	r.InitialState(resolver.State{})
	conn, err := grpc.NewClient("oracle:///", grpc.WithResolvers(r),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	built := make(chan resolver.ClientConn, 1)
	r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) { built <- cc }
	conn.Connect()
	cc := <-built
	t.Cleanup(func() { conn.Close() })
	return func(doc string) (*grpcConfig, error) {
		result := cc.ParseServiceConfig(doc)
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Config.(*grpcConfig), nil
	}
}

// The cases where Parse and grpc-go agree have no reason; each of the others
// says what the text demands.
var differential = []struct{ name, doc, reason string }{
	{"the whole", strings.Replace(whole, "aborted", "ABORTED", 1), ""},
	{"nothing", `{}`, ""},
	{"no document", ``, ""},
	{"not JSON", `{`, ""},
	{"an array", `[]`, ""},
	{"unknown fields", `{"x":1,"methodConfig":[{"name":[{}],"y":2}]}`, ""},
	{"no names", `{"methodConfig":[{"name":[]}]}`, ""},
	{"service of a default", `{"methodConfig":[{"name":[{"method":"m"}]}]}`, ""},
	{"the same name twice", `{"methodConfig":[{"name":[{"service":"s"},{"service":"s"}]}]}`, ""},
	{"the same default twice", `{"methodConfig":[{"name":[{}]},{"name":[{}]}]}`, ""},
	{"null method", `{"methodConfig":[{"name":[{"service":"s","method":null}]}]}`, ""},
	{"timeout", entry(`"timeout":"0.000000001s"`), ""},
	{"timeout no string", entry(`"timeout":1`), ""},
	{"timeout without unit", entry(`"timeout":"1"`), ""},
	{"timeout ten decimals", entry(`"timeout":"0.0000000001s"`), ""},
	{"timeout out of range", entry(`"timeout":"315576000001s"`), ""},
	{"timeout beyond time.Duration", entry(`"timeout":"9223372037s"`), ""},
	{"wait no boolean", entry(`"waitForReady":1`), ""},
	{"sizes", entry(`"maxRequestMessageBytes":1,"maxResponseMessageBytes":2`), ""},
	{"size quoted", entry(`"maxRequestMessageBytes":"1"`), ""},
	{"retry", retryBut("", ""), ""},
	{"attempts above the limit", retryBut("maxAttempts", "6"), ""},
	{"one attempt", retryBut("maxAttempts", "1"), ""},
	{"attempts missing", retryBut("maxAttempts", ""), ""},
	{"attempts 3.0", retryBut("maxAttempts", "3.0"), ""},
	{"initial zero", retryBut("initialBackoff", `"0s"`), ""},
	{"initial missing", retryBut("initialBackoff", ""), ""},
	{"max negative", retryBut("maxBackoff", `"-1s"`), ""},
	{"multiplier zero", retryBut("backoffMultiplier", "0"), ""},
	{"multiplier missing", retryBut("backoffMultiplier", ""), ""},
	{"multiplier out of range", retryBut("backoffMultiplier", "1e999"), ""},
	{"codes missing", retryBut("retryableStatusCodes", ""), ""},
	{"codes empty", retryBut("retryableStatusCodes", "[]"), ""},
	{"code as integer", retryBut("retryableStatusCodes", "[16]"), ""},
	{"code 17", retryBut("retryableStatusCodes", "[17]"), ""},
	{"code negative", retryBut("retryableStatusCodes", "[-1]"), ""},
	{"code unknown", retryBut("retryableStatusCodes", `["NOPE"]`), ""},
	{"code quoted", retryBut("retryableStatusCodes", `["14"]`), ""},
	{"tokens zero", `{"methodConfig":[],"retryThrottling":{"maxTokens":0,"tokenRatio":1}}`, ""},
	{"tokens 1001", `{"methodConfig":[],"retryThrottling":{"maxTokens":1001,"tokenRatio":1}}`, ""},
	{"half a token", `{"methodConfig":[],"retryThrottling":{"maxTokens":1.5,"tokenRatio":1}}`, ""},
	{"ratio zero", `{"methodConfig":[],"retryThrottling":{"maxTokens":1,"tokenRatio":0}}`, ""},
	{"load balancing policy no string", `{"loadBalancingPolicy":1}`, ""},
	{"load balancing config no array", `{"loadBalancingConfig":1}`, ""},
	{"health check", `{"healthCheckConfig":{"serviceName":1}}`, ""},

	{"code in lower case", retryBut("retryableStatusCodes", `["unavailable"]`),
		"A6: a code may be given in the case-insensitive string form"},
	{"code null", retryBut("retryableStatusCodes", `[null]`),
		"A6: each status code must be a valid gRPC status code; null is none, and grpc-go retries OK for it"},
	{"both policies", `{"methodConfig":[{"name":[{}],"retryPolicy":` +
		`{"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1,"retryableStatusCodes":[14]},` +
		`"hedgingPolicy":{"maxAttempts":2}}]}`,
		"A6: an RPC may be governed by a retry policy or a hedging policy, but not both"},
	{"hedging one attempt", hedge(`"maxAttempts":1`),
		"A6: maxAttempts must be greater than 1; grpc-go has no hedging"},
	{"hedging without attempts", hedge(``),
		"A6: maxAttempts must be specified; grpc-go has no hedging"},
	{"throttling without methods, zero", throttle(`"maxTokens":0,"tokenRatio":1`),
		"A6: maxTokens is in (0, 1000]; grpc-go does not look where methodConfig is absent"},
	{"ratio below a thousandth", `{"methodConfig":[],"retryThrottling":{"maxTokens":1,"tokenRatio":0.0004}}`,
		"A6: decimal places beyond 3 are ignored, so this is 0, which is not greater than 0"},
	{"timeout negative", entry(`"timeout":"-1s"`),
		"service_config.proto: the request is aborted after the time; there is none (grpc-go sets no deadline then)"},
	{"timeout zero", entry(`"timeout":"0s"`),
		"service_config.proto: the request is aborted after the time; every call would fail unsent"},
	{"timeout without whole part", entry(`"timeout":".5s"`),
		"A6: the numeric portion of the string must be a valid JSON number"},
	{"timeout without fraction", entry(`"timeout":"1.s"`),
		"A6: the numeric portion of the string must be a valid JSON number"},
	{"timeout with leading zero", entry(`"timeout":"01s"`),
		"A6: the numeric portion of the string must be a valid JSON number"},
	{"timeout with plus", entry(`"timeout":"+1s"`),
		"A6: the numeric portion of the string must be a valid JSON number"},
	{"timeout with inner sign", entry(`"timeout":"1.-5s"`),
		"A6: the numeric portion of the string must be a valid JSON number"},
	{"size negative", entry(`"maxRequestMessageBytes":-1`),
		"service_config.proto: a UInt32Value"},
	{"size above 32 bits", entry(`"maxRequestMessageBytes":4294967296`),
		"service_config.proto: a UInt32Value"},
	{"field names in another case", `{"METHODCONFIG":1}`,
		"A21: unknown fields are ignored; JSON names are compared exactly"},
	{"a field twice", entry(`"timeout":"1s","timeout":"2s"`),
		"the JSON form of Protocol Buffers: a duplicate name is an error"},
	{"no entry but a bad policy", `{"methodConfig":[{"retryPolicy":{}}]}`,
		"A21: every known field is validated; grpc-go skips an entry without names"},
	{"null for an entry", `{"methodConfig":[null]}`,
		"the JSON form of Protocol Buffers: null is no element of a list"},
	{"null for a name", `{"methodConfig":[{"name":[null]}]}`,
		"the JSON form of Protocol Buffers: null is no element of a list"},
	{"unknown load balancing policies", `{"loadBalancingConfig":[{"nobody_has_this":{}}]}`,
		"service_config.proto: invalid if the client supports none; that is the channel's to know, which this package is not"},
}

func TestParseAgreesWithGRPCExceptWhereTheTextSaysOtherwise(t *testing.T) {
	t.Parallel()
	oracle := grpcParser(t)
	for _, tt := range differential {
		c, err := serviceconfig.Parse("", []byte(tt.doc))
		theirs, theirErr := oracle(tt.doc)
		agree := (err == nil) == (theirErr == nil)
		switch {
		case !agree && tt.reason == "":
			t.Errorf("%s: %s\nParse:   %v\ngrpc-go: %v", tt.name, tt.doc, err, theirErr)
		case agree && tt.reason != "":
			t.Errorf("%s: both say %v; the listed reason is out of date: %s", tt.name, err, tt.reason)
		case err == nil && theirErr == nil:
			sameMethods(t, tt.name, c, theirs)
		}
	}
}

// sameMethods compares what both know of each method that either names.
func sameMethods(t *testing.T, name string, c *serviceconfig.Config, theirs *grpcConfig) {
	t.Helper()
	count := 0
	for _, m := range c.Methods {
		for _, n := range m.Names {
			count++
			path := ""
			if n.Service != "" {
				path = "/" + n.Service + "/" + n.Method
			}
			their, ok := theirs.Methods[path]
			if !ok {
				t.Errorf("%s: grpc-go does not know %q", name, path)
				continue
			}
			sameEntry(t, name+" "+path, m, their)
		}
	}
	if count != len(theirs.Methods) {
		t.Errorf("%s: got %d methods, grpc-go %d", name, count, len(theirs.Methods))
	}
}

func sameEntry(t *testing.T, name string, m serviceconfig.MethodConfig, their grpcMethod) {
	t.Helper()
	if (m.Timeout != 0) != (their.Timeout != nil) || their.Timeout != nil && m.Timeout != *their.Timeout {
		t.Errorf("%s: timeout %v, grpc-go %v", name, m.Timeout, their.Timeout)
	}
	if (m.WaitForReady == nil) != (their.WaitForReady == nil) || m.WaitForReady != nil && *m.WaitForReady != *their.WaitForReady {
		t.Errorf("%s: waitForReady %v, grpc-go %v", name, m.WaitForReady, their.WaitForReady)
	}
	for _, size := range []struct {
		ours   *uint32
		theirs *int
	}{{m.MaxRequestBytes, their.MaxReqSize}, {m.MaxResponseBytes, their.MaxRespSize}} {
		if (size.ours == nil) != (size.theirs == nil) || size.ours != nil && min(int64(*size.ours), math.MaxInt) != int64(*size.theirs) {
			t.Errorf("%s: message size %v, grpc-go %v", name, size.ours, size.theirs)
		}
	}
	if (m.Retry == nil) != (their.RetryPolicy == nil) {
		t.Errorf("%s: retryPolicy %v, grpc-go %v", name, m.Retry, their.RetryPolicy)
		return
	}
	if r, their := m.Retry, their.RetryPolicy; r != nil {
		same := min(r.MaxAttempts, serviceconfig.DefaultMaxAttempts) == their.MaxAttempts &&
			r.InitialBackoff == their.InitialBackoff && r.MaxBackoff == their.MaxBackoff &&
			r.BackoffMultiplier == their.BackoffMultiplier
		for code := range codes.Code(17) {
			same = same && slices.Contains(r.Codes, code) == their.RetryableStatusCodes[code]
		}
		if !same {
			t.Errorf("%s: retryPolicy %+v, grpc-go %+v", name, *r, *their)
		}
	}
}
