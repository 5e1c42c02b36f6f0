package serviceconfig_test

import (
	"testing"
	"time"

	"github.com/reprise-go/reprise/serviceconfig"
)

const choices = `[
  {"clientLanguage": ["C++", "Java"], "serviceConfig": {"methodConfig": [{"name": [{}], "timeout": "1s"}]}},
  {"clientHostname": ["canary"], "serviceConfig": {"methodConfig": [{"name": [{}], "timeout": "2s"}]}},
  {"percentage": 10, "clientLanguage": ["GO"], "serviceConfig": {"methodConfig": [{"name": [{}], "timeout": "3s"}]}},
  {"percentage": 0, "serviceConfig": {"methodConfig": [{"name": [{}], "timeout": "4s"}]}},
  {"clientLanguage": ["go"], "clientHostname": [], "percentage": null, "serviceConfig": {"methodConfig": [{"name": [{}], "timeout": "5s", "later": 1}]}}
]`

func TestTheFirstChoiceThatIsForTheClientHolds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		client serviceconfig.Client
		want   time.Duration // 0 for an empty config
	}{
		{serviceconfig.Client{Language: "java", Hostname: "canary"}, 1 * time.Second},
		{serviceconfig.Client{Hostname: "canary"}, 2 * time.Second},
		{serviceconfig.Client{Hostname: "Canary", Percentile: 9}, 3 * time.Second},
		{serviceconfig.Client{Percentile: 10}, 5 * time.Second},
		{serviceconfig.Client{Language: "python"}, 0},
	} {
		c, err := serviceconfig.ParseChoice("", []byte(choices), tt.client)
		if err != nil {
			t.Errorf("%+v: %v", tt.client, err)
			continue
		}
		var got time.Duration
		if m := c.Method("/a.B/C"); m != nil {
			got = m.Timeout
		}
		if got != tt.want {
			t.Errorf("%+v: got the choice with %v, want %v", tt.client, got, tt.want)
		}
	}
	if c, err := serviceconfig.ParseChoice("", []byte(`[]`), serviceconfig.Client{}); err != nil || len(c.Methods) != 0 {
		t.Errorf("of no choice: got %+v, %v, want an empty config", c, err)
	}
}

func TestAMalformedChoiceMakesTheWholeInvalid(t *testing.T) {
	t.Parallel()
	const rest = `, {"serviceConfig": {}}]`
	for doc, want := range map[string]string{
		`[`:  `1:2: expected a JSON value, found end of the document`,
		`{}`: `1:1: must be an array, got an object`,
		`[{"serviceConfig": {}, "percent": 3}` + rest: `1:24: [0].percent: unknown field; did you mean "percentage"?`,
		`[{}` + rest:                                                      `1:2: [0].serviceConfig: must be set`,
		`[{"serviceConfig": []}` + rest:                                   `1:20: [0].serviceConfig: must be an object, got an array`,
		`[{"serviceConfig": {}}, {"serviceConfig": 1}]`:                   `1:43: [1].serviceConfig: must be an object, got a number`,
		`[{"serviceConfig": {}, "percentage": 101}` + rest:                `1:38: [0].percentage: must be from 0 to 100, got 101`,
		`[{"serviceConfig": {}, "percentage": 1.5}` + rest:                `1:38: [0].percentage: must be an integer, got 1.5`,
		`[{"serviceConfig": {}, "clientLanguage": "go"}` + rest:           `1:42: [0].clientLanguage: must be an array, got a string`,
		`[{"serviceConfig": {}, "clientHostname": [1]}` + rest:            `1:43: [0].clientHostname[0]: must be a string, got a number`,
		`[{"serviceConfig": {"methodConfig": 1}}` + rest:                  `1:37: [0].serviceConfig.methodConfig: must be an array, got a number`,
		`[{"percentage": 0, "serviceConfig": {"methodConfig": 1}}` + rest: ``, // A21: it is not chosen
	} {
		_, err := serviceconfig.ParseChoice("", []byte(doc), serviceconfig.Client{})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", doc, got, want)
		}
	}
}

func FuzzParseChoice(f *testing.F) {
	f.Add([]byte(choices), "go", 50)
	f.Add([]byte(`[{"serviceConfig":{}}]`), "", 0)
	f.Fuzz(func(t *testing.T, doc []byte, language string, percentile int) {
		c, err := serviceconfig.ParseChoice("f", doc, serviceconfig.Client{Language: language, Percentile: percentile})
		checkErrors(t, doc, err)
		if (c == nil) != (err != nil) {
			t.Errorf("%q: got %+v with %v", doc, c, err)
		}
	})
}
