package serviceconfig_test

import (
	"fmt"
	"strings"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/reprise-go/reprise/serviceconfig"
)

// health is a service with the unary methods Check and List and the streaming
// method Watch.
var health = []protoreflect.ServiceDescriptor{
	healthpb.File_grpc_health_v1_health_proto.Services().ByName("Health"),
}

func mustParse(t *testing.T, doc string) *serviceconfig.Config {
	t.Helper()
	c, err := serviceconfig.ParseStrict("health.json", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func checkText(t *testing.T, name string, err error, want ...string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != strings.Join(want, "\n") {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", name, got, strings.Join(want, "\n"))
	}
}

func TestNamesThatNoServiceHasAreReported(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `{"methodConfig":[
  {"name":[{}, {"service":"grpc.health.v1.Health"}, {"service":"grpc.health.v1.Health","method":"Check"}]},
  {"name":[{"service":"grpc.health.v1.Heath"}, {"service":"other.Thing","method":"Do"}]},
  {"name":[{"service":"grpc.health.v1.Health","method":"check"}]}
]}`)
	method := `health.json:4:12: methodConfig[2].name[0]: service grpc.health.v1.Health has no method "check"; did you mean "Check"?`
	checkText(t, "alone", serviceconfig.CheckNames(c, health, false),
		`health.json:3:12: methodConfig[1].name[0]: unknown service "grpc.health.v1.Heath"; did you mean "grpc.health.v1.Health"?`,
		`health.json:3:48: methodConfig[1].name[1]: unknown service "other.Thing"`,
		method)
	checkText(t, "with others", serviceconfig.CheckNames(c, health, true), method)
}

func TestAStreamGetsATimeoutOnlyFromAnEntryThatNamesIt(t *testing.T) {
	t.Parallel()
	const inherited = `would end every stream of grpc.health.v1.Health.Watch after 5s; ` +
		`give that method an entry of its own, with a timeout or without`
	watch := `{"service":"grpc.health.v1.Health","method":"Watch"}`
	for _, tt := range []struct{ name, entries, want string }{
		{"no entry", ``, ``},
		{"another service", `{"name":[{"service":"a.B"}],"timeout":"5s"}`, ``},
		{"default", `{"name":[{}],"timeout":"5s"}`, `health.json:1:41: methodConfig[0].timeout: ` + inherited},
		{"service", `{"name":[{}]},{"name":[{"service":"grpc.health.v1.Health"}],"timeout":"5s"}`,
			`health.json:1:88: methodConfig[1].timeout: ` + inherited},
		{"named with a timeout", `{"name":[{}],"timeout":"5s"},{"name":[` + watch + `],"timeout":"60s"}`, ``},
		{"named without", `{"name":[{}],"timeout":"5s"},{"name":[` + watch + `]}`, ``},
		{"unary only", `{"name":[{"service":"grpc.health.v1.Health","method":"Check"}],"timeout":"5s"}`, ``},
	} {
		c := mustParse(t, fmt.Sprintf(`{"methodConfig":[%s]}`, tt.entries))
		var want []string
		if tt.want != "" {
			want = []string{tt.want}
		}
		checkText(t, tt.name, serviceconfig.CheckStreams(c, health), want...)
	}
}

func TestAStreamCannotBeHedged(t *testing.T) {
	t.Parallel()
	c := mustParse(t, hedge(`"maxAttempts":2`))
	checkText(t, "inherited", serviceconfig.CheckStreams(c, health),
		`health.json:1:47: methodConfig[0].hedgingPolicy: the streaming method grpc.health.v1.Health.Watch cannot be hedged; `+
			`give it an entry of its own without hedging`)
	c = &serviceconfig.Config{Methods: []serviceconfig.MethodConfig{{
		Names:   []serviceconfig.Name{{Service: "grpc.health.v1.Health", Method: "Watch"}},
		Hedging: &serviceconfig.HedgingPolicy{MaxAttempts: 2},
	}, {
		Names: []serviceconfig.Name{{Service: "a.B"}},
	}}}
	checkText(t, "made by hand", serviceconfig.CheckStreams(c, health),
		`methodConfig[0].hedgingPolicy: the streaming method grpc.health.v1.Health.Watch cannot be hedged; `+
			`give it an entry of its own without hedging`)
	checkText(t, "made by hand", serviceconfig.CheckNames(c, health, false), `methodConfig[1].name[0]: unknown service "a.B"`)
}
