package serviceconfig_test

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/reprise-go/reprise/serviceconfig"
)

const whole = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "loadBalancingPolicy": "round_robin",
  "healthCheckConfig": {"serviceName": "health"},
  "connectionScaling": {"maxConnectionsPerSubchannel": 3},
  "methodConfig": [
    {
      "name": [{"service": "a.B", "method": "C"}, {"service": "a.B", "method": "D"}],
      "waitForReady": true,
      "timeout": "1.5s",
      "maxRequestMessageBytes": 0,
      "maxResponseMessageBytes": 4294967295,
      "retryPolicy": {
        "maxAttempts": 9,
        "initialBackoff": "0.0000005s",
        "maxBackoff": "10s",
        "backoffMultiplier": 1.25,
        "retryableStatusCodes": ["UNAVAILABLE", "aborted", 8]
      }
    },
    {
      "name": [{"service": "a.B"}],
      "waitForReady": false,
      "hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.5s", "nonFatalStatusCodes": [14]}
    },
    {"name": [{}], "timeout": "7s", "waitForReady": null}
  ],
  "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.5466}
}`

func TestEveryFieldIsReadExactly(t *testing.T) {
	t.Parallel()
	want := []serviceconfig.MethodConfig{
		{
			Names:            []serviceconfig.Name{{Service: "a.B", Method: "C"}, {Service: "a.B", Method: "D"}},
			WaitForReady:     new(true),
			Timeout:          1500 * time.Millisecond,
			MaxRequestBytes:  new(uint32(0)),
			MaxResponseBytes: new(uint32(math.MaxUint32)),
			Retry: &serviceconfig.RetryPolicy{
				MaxAttempts:       9,
				InitialBackoff:    500 * time.Nanosecond,
				MaxBackoff:        10 * time.Second,
				BackoffMultiplier: 1.25,
				Codes:             []codes.Code{codes.Unavailable, codes.Aborted, codes.ResourceExhausted},
			},
		},
		{
			Names:        []serviceconfig.Name{{Service: "a.B"}},
			WaitForReady: new(false),
			Hedging: &serviceconfig.HedgingPolicy{
				MaxAttempts:   3,
				Delay:         500 * time.Millisecond,
				NonFatalCodes: []codes.Code{codes.Unavailable},
			},
		},
		{Names: []serviceconfig.Name{{}}, Timeout: 7 * time.Second},
	}
	for name, parse := range parsers {
		c, err := parse("whole.json", []byte(whole))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(c.Methods) != len(want) {
			t.Fatalf("%s: got %d entries, want %d", name, len(c.Methods), len(want))
		}
		for i := range want {
			if got, want := exported(c.Methods[i]), exported(want[i]); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: methodConfig[%d]:\ngot  %+v\nwant %+v", name, i, got, want)
			}
		}
		if want := (serviceconfig.RetryThrottling{MaxTokens: 10, TokenRatio: 0.546}); *c.Throttling != want {
			t.Errorf("%s: throttling: got %+v, want %+v", name, *c.Throttling, want)
		}
	}
}

var parsers = map[string]func(string, []byte) (*serviceconfig.Config, error){
	"Parse": serviceconfig.Parse, "ParseStrict": serviceconfig.ParseStrict,
}

// exported returns the exported fields of an entry, to compare by value.
func exported(m serviceconfig.MethodConfig) []any {
	var all []any
	v := reflect.ValueOf(m)
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() {
			all = append(all, v.Field(i).Interface())
		}
	}
	return all
}

// Documents around one value under test.
func retry(fields string) string {
	return `{"methodConfig":[{"name":[{}],"retryPolicy":{` + fields + `}}]}`
}

func retryBut(field, value string) string {
	all := []string{}
	for _, f := range [][2]string{
		{"maxAttempts", "3"}, {"initialBackoff", `"1s"`}, {"maxBackoff", `"2s"`},
		{"backoffMultiplier", "2"}, {"retryableStatusCodes", "[14]"},
	} {
		if f[0] == field {
			f[1] = value
		}
		if f[1] != "" {
			all = append(all, `"`+f[0]+`":`+f[1])
		}
	}
	return retry(strings.Join(all, ","))
}

func hedge(fields string) string {
	return `{"methodConfig":[{"name":[{}],"hedgingPolicy":{` + fields + `}}]}`
}

func throttle(fields string) string { return `{"retryThrottling":{` + fields + `}}` }

func entry(fields string) string { return `{"methodConfig":[{"name":[{}],` + fields + `}]}` }

func TestAValidConfigIsTaken(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"nothing":                           `{}`,
		"white space":                       " \t\r\n{ } \n",
		"no policies":                       `{"methodConfig":[]}`,
		"null for absent":                   `{"methodConfig":null,"retryThrottling":null}`,
		"null in a name":                    `{"methodConfig":[{"name":[{"service":"s","method":null}]}]}`,
		"null policy beside the other":      `{"methodConfig":[{"name":[{}],"retryPolicy":null,"hedgingPolicy":{"maxAttempts":2}}]}`,
		"two attempts, the least":           retryBut("maxAttempts", "2"),
		"attempts above the client's limit": retryBut("maxAttempts", "1000000"),
		"attempts above an int32":           retryBut("maxAttempts", "99999999999999999999"),
		"one nanosecond":                    retryBut("initialBackoff", `"0.000000001s"`),
		"the longest duration":              retryBut("maxBackoff", `"315576000000s"`),
		"initial above max":                 retryBut("maxBackoff", `"0.5s"`),
		"multiplier below 1":                retryBut("backoffMultiplier", "0.5"),
		"multiplier with an exponent":       retryBut("backoffMultiplier", "1.6e0"),
		"codes by name in any case":         retryBut("retryableStatusCodes", `["UNAVAILABLE","unavailable","Unavailable"]`),
		"the last code":                     retryBut("retryableStatusCodes", `[16]`),
		"a code written with escapes":       retryBut("retryableStatusCodes", `["\u0055NAVAILABLE"]`),
		"hedging without delay":             hedge(`"maxAttempts":2`),
		"hedging at once":                   hedge(`"maxAttempts":2,"hedgingDelay":"0s","nonFatalStatusCodes":[]`),
		"a thousand tokens":                 throttle(`"maxTokens":1000,"tokenRatio":1`),
		"the least ratio":                   throttle(`"maxTokens":1,"tokenRatio":0.001`),
		"the least ratio with an exponent":  throttle(`"maxTokens":1,"tokenRatio":1e-3`),
		"no byte allowed":                   entry(`"maxRequestMessageBytes":0`),
	} {
		for mode, parse := range parsers {
			if _, err := parse("", []byte(doc)); err != nil {
				t.Errorf("%s: %s: %v", mode, name, err)
			}
		}
	}
}

func TestAnInvalidConfigSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, doc, want string }{
		{"top", `[]`, `must be an object, got an array; ParseChoice reads a list`},
		{"entries", `{"methodConfig":{}}`, `methodConfig: must be an array, got an object`},
		{"entry", `{"methodConfig":[3]}`, `methodConfig[0]: must be an object, got a number`},
		{"null entry", `{"methodConfig":[null]}`, `methodConfig[0]: must be an object, got null`},
		{"name", `{"methodConfig":[{"name":["s"]}]}`, `methodConfig[0].name[0]: must be an object, got a string`},
		{"method alone", `{"methodConfig":[{"name":[{"method":"m"}]}]}`, `name[0]: a method needs its service`},
		{"service", `{"methodConfig":[{"name":[{"service":1}]}]}`, `name[0].service: must be a string, got a number`},
		{"same name", `{"methodConfig":[{"name":[{"service":"s"}]},{"name":[{"service":"s","method":""}]}]}`,
			`methodConfig[1].name[0]: names the same as methodConfig[0].name[0]`},
		{"two defaults", `{"methodConfig":[{"name":[{},{}]}]}`, `methodConfig[0].name[1]: names the same as methodConfig[0].name[0]`},
		{"a field twice", entry(`"timeout":"1s","timeout":"2s"`), `methodConfig[0].timeout: is given twice`},
		{"both policies", entry(`"retryPolicy":{},"hedgingPolicy":{}`), `methodConfig[0]: only one of retryPolicy and hedgingPolicy may be set`},
		{"wait", entry(`"waitForReady":"true"`), `waitForReady: must be true or false, got "true"`},
		{"timeout zero", entry(`"timeout":"0s"`), `timeout: must be greater than 0, got "0s"`},
		{"timeout negative", entry(`"timeout":"-1s"`), `timeout: must be greater than 0, got "-1s"`},
		{"timeout number", entry(`"timeout":1`), `timeout: must be a duration in quotes such as "0.25s", got 1`},
		{"size negative", entry(`"maxRequestMessageBytes":-1`), `maxRequestMessageBytes: must be an integer from 0 to 4294967295, got -1`},
		{"size too big", entry(`"maxResponseMessageBytes":4294967296`), `maxResponseMessageBytes: must be an integer from 0 to 4294967295`},
		{"size quoted", entry(`"maxRequestMessageBytes":"1"`), `must be an integer from 0 to 4294967295, got "1"`},

		{"no attempts", retryBut("maxAttempts", ""), `retryPolicy.maxAttempts: must be set`},
		{"attempts null", retryBut("maxAttempts", "null"), `retryPolicy.maxAttempts: must be set`},
		{"one attempt", retryBut("maxAttempts", "1"), `maxAttempts: must be greater than 1, got 1`},
		{"negative attempts", retryBut("maxAttempts", "-99999999999"), `maxAttempts: must be greater than 1, got -99999999999`},
		{"half attempts", retryBut("maxAttempts", "2.5"), `maxAttempts: must be an integer, got 2.5`},
		{"attempts 3.0", retryBut("maxAttempts", "3.0"), `maxAttempts: must be an integer, got 3.0`},
		{"attempts quoted", retryBut("maxAttempts", `"3"`), `maxAttempts: must be an integer, got "3"`},
		{"no initial", retryBut("initialBackoff", ""), `initialBackoff: must be set`},
		{"initial zero", retryBut("initialBackoff", `"0s"`), `initialBackoff: must be greater than 0, got "0s"`},
		{"initial negative", retryBut("initialBackoff", `"-0.1s"`), `initialBackoff: must be greater than 0, got "-0.1s"`},
		{"no max", retryBut("maxBackoff", ""), `maxBackoff: must be set`},
		{"max zero", retryBut("maxBackoff", `"0.000s"`), `maxBackoff: must be greater than 0`},
		{"no multiplier", retryBut("backoffMultiplier", ""), `backoffMultiplier: must be set`},
		{"multiplier zero", retryBut("backoffMultiplier", "0"), `backoffMultiplier: must be greater than 0, got 0`},
		{"multiplier quoted", retryBut("backoffMultiplier", `"2"`), `backoffMultiplier: must be a number, got a string`},
		{"multiplier huge", retryBut("backoffMultiplier", "1e999"), `backoffMultiplier: is out of range: 1e999`},
		{"no codes", retryBut("retryableStatusCodes", ""), `retryableStatusCodes: must be set`},
		{"codes empty", retryBut("retryableStatusCodes", "[]"), `retryableStatusCodes: must not be empty`},
		{"codes no array", retryBut("retryableStatusCodes", "14"), `retryableStatusCodes: must be an array, got a number`},
		{"code null", retryBut("retryableStatusCodes", "[null]"), `retryableStatusCodes[0]: must be a gRPC status code, got null`},
		{"code 17", retryBut("retryableStatusCodes", "[14, 17]"), `retryableStatusCodes[1]: must be a gRPC status code, got 17`},
		{"code -1", retryBut("retryableStatusCodes", "[-1]"), `must be a gRPC status code, got -1`},
		{"code 14.0", retryBut("retryableStatusCodes", "[14.0]"), `must be a gRPC status code, got 14.0`},
		{"code misspelt", retryBut("retryableStatusCodes", `["UNAVAILBLE"]`),
			`must be a gRPC status code, got "UNAVAILBLE"; did you mean "UNAVAILABLE"?`},
		{"code with one L", retryBut("retryableStatusCodes", `["Canceled"]`), `did you mean "CANCELLED"?`},
		{"code quoted", retryBut("retryableStatusCodes", `["14"]`), `must be a gRPC status code, got "14"`},
		{"code beyond ASCII", retryBut("retryableStatusCodes", "[\"UN\u212aNOWN\"]"), `must be a gRPC status code`},

		{"hedge no attempts", hedge(``), `hedgingPolicy.maxAttempts: must be set`},
		{"hedge one attempt", hedge(`"maxAttempts":1`), `hedgingPolicy.maxAttempts: must be greater than 1, got 1`},
		{"hedge delay negative", hedge(`"maxAttempts":2,"hedgingDelay":"-1s"`), `hedgingDelay: must not be negative, got "-1s"`},
		{"hedge delay malformed", hedge(`"maxAttempts":2,"hedgingDelay":"1"`), `hedgingDelay: must be a duration: a decimal number of seconds and "s", got "1"`},
		{"hedge code", hedge(`"maxAttempts":2,"nonFatalStatusCodes":["NOPE"]`), `nonFatalStatusCodes[0]: must be a gRPC status code, got "NOPE"`},

		{"no tokens", throttle(`"tokenRatio":1`), `retryThrottling.maxTokens: must be set`},
		{"tokens zero", throttle(`"maxTokens":0,"tokenRatio":1`), `maxTokens: must be greater than 0 and at most 1000, got 0`},
		{"tokens 1001", throttle(`"maxTokens":1001,"tokenRatio":1`), `maxTokens: must be greater than 0 and at most 1000, got 1001`},
		{"tokens quoted", throttle(`"maxTokens":"5","tokenRatio":1`), `maxTokens: must be a number, got a string`},
		{"no ratio", throttle(`"maxTokens":1`), `retryThrottling.tokenRatio: must be set`},
		{"ratio zero", throttle(`"maxTokens":1,"tokenRatio":0`), `tokenRatio: must be greater than 0 in its first three decimals, got 0`},
		{"ratio below a thousandth", throttle(`"maxTokens":1,"tokenRatio":0.0004`), `tokenRatio: must be greater than 0 in its first three decimals`},
		{"ratio tiny", throttle(`"maxTokens":1,"tokenRatio":4e-4`), `tokenRatio: must be greater than 0 in its first three decimals`},
		{"ratio quoted", throttle(`"maxTokens":1,"tokenRatio":"1"`), `tokenRatio: must be a number, got a string`},

		{"lb policy", `{"loadBalancingPolicy":3}`, `loadBalancingPolicy: must be a string, got a number`},
		{"lb config", `{"loadBalancingConfig":{}}`, `loadBalancingConfig: must be an array, got an object`},
		{"lb config element", `{"loadBalancingConfig":["rr"]}`, `loadBalancingConfig[0]: must be an object, got a string`},
		{"lb config fields", `{"loadBalancingConfig":[{"a":{},"b":{}}]}`, `loadBalancingConfig[0]: must have one field`},
		{"health", `{"healthCheckConfig":{"serviceName":[]}}`, `healthCheckConfig.serviceName: must be a string, got an array`},
		{"scaling", `{"connectionScaling":{"maxConnectionsPerSubchannel":-1}}`, `maxConnectionsPerSubchannel: must be an integer`},
	} {
		for mode, parse := range parsers {
			c, err := parse("", []byte(tt.doc))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %s:\n%s\ngot  %v\nwant %s", mode, tt.name, tt.doc, err, tt.want)
			}
			if err != nil && c != nil {
				t.Errorf("%s: %s: a config came with the error", mode, tt.name)
			}
		}
	}
}

func TestOnlyParseStrictRejectsWhatAClientIgnores(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, doc, want string }{
		{"unknown field", `{"methodConfigs":[]}`, `1:2: methodConfigs: unknown field; did you mean "methodConfig"?`},
		{"case of a field", `{"MethodConfig":[]}`, `did you mean "methodConfig"?`},
		{"unknown field far from any", `{"comment":""}`, `1:2: comment: unknown field`},
		{"snake case", hedge(`"maxAttempts":2,"hedging_delay":"1s"`), `hedgingPolicy.hedging_delay: unknown field; did you mean "hedgingDelay"?`},
		{"entry without name", `{"methodConfig":[{"timeout":"1s"}]}`, `methodConfig[0].name: must name a method, or the entry is for none; {} names all`},
		{"entry with no names", `{"methodConfig":[{"name":[]}]}`, `methodConfig[0].name: must name a method`},
		{"OK to be retried", retryBut("retryableStatusCodes", `["OK"]`), `retryableStatusCodes[0]: must be the code of a failure, got "OK"`},
		{"half a token", throttle(`"maxTokens":1.5,"tokenRatio":1`), `maxTokens: must be an integer, got 1.5`},
	} {
		if _, err := serviceconfig.Parse("", []byte(tt.doc)); err != nil {
			t.Errorf("Parse: %s: %v", tt.name, err)
		}
		_, err := serviceconfig.ParseStrict("", []byte(tt.doc))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseStrict: %s:\ngot  %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

func TestTokensKeepThreeDecimals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"0.5466": 0.546, "0.29": 0.29, "1.0009": 1, "5466e-4": 0.546, "1e1": 10, "0.99999999999999999999": 0.999, "2": 2,
	} {
		c, err := serviceconfig.Parse("", []byte(throttle(`"maxTokens":1.2345,"tokenRatio":`+text)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if c.Throttling.TokenRatio != want || c.Throttling.MaxTokens != 1.234 {
			t.Errorf("%s: got ratio %v of %v tokens, want %v of 1.234", text, c.Throttling.TokenRatio, c.Throttling.MaxTokens, want)
		}
	}
}
