package serviceconfig_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/serviceconfig"
)

func ExampleParseStrict() {
	_, err := serviceconfig.ParseStrict("orders.json", []byte(`{
  "methodConfig": [{
    "name": [{"service": "shop.Orders"}],
    "retryPolicy": {
      "maxAttempts": 1,
      "initialBackoff": "0.1s",
      "maxBackoff": "1s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILBLE"]
    }
  }]
}`))
	fmt.Println(err)
	// Output:
	// orders.json:5:22: methodConfig[0].retryPolicy.maxAttempts: must be greater than 1, got 1
	// orders.json:9:32: methodConfig[0].retryPolicy.retryableStatusCodes[0]: must be a gRPC status code, got "UNAVAILBLE"; did you mean "UNAVAILABLE"?
}

func ExamplePolicy() {
	config, err := serviceconfig.Parse("orders.json", []byte(`{
  "methodConfig": [{
    "name": [{"service": "shop.Orders", "method": "Get"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.001s",
      "maxBackoff": "0.01s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }],
  "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := serviceconfig.NewPolicy(config)

	attempts := 0
	err = reprise.Invoke(context.Background(), func(context.Context, reprise.CallSettings) error {
		if attempts++; attempts < 3 {
			return status.Error(codes.Unavailable, "restarting")
		}
		return nil
	}, policy.CallOptions("/shop.Orders/Get")...)
	fmt.Println(err, "after", attempts, "attempts;", policy.Throttle().Tokens(), "tokens left")
	// Output:
	// <nil> after 3 attempts; 8.1 tokens left
}
