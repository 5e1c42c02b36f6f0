package shop_test

import (
	"strings"
	"testing"

	"github.com/reprise-go/reprise/examples/shop"
)

func TestAWrongScriptIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"Place=nope", "Place", "Place=ok,", "Place=unavailable"} {
		if _, err := shop.ParseScript(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// FuzzParseScript checks that a script that is taken names only what a Script
// knows.
func FuzzParseScript(f *testing.F) {
	for _, text := range []string{"", "Place=lost,ok Get=UNAVAILABLE", "a=ok b=slow,DATA_LOSS", "x=\"", "Place=,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := shop.ParseScript(text); err != nil {
			return
		}
		for method := range strings.FieldsSeq(text) {
			for word := range strings.SplitSeq(method[strings.Index(method, "=")+1:], ",") {
				if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
					t.Errorf("%q was taken in %q", word, text)
				}
			}
		}
	})
}
