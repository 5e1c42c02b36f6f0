// Package serviceconfig reads gRPC service configs, the JSON documents by which
// the owner of a service tells its clients how to call it: timeouts, retries,
// hedging, throttling and limits on sizes, for each method.
//
// [Parse] reads a config as a client must, ignoring what it does not know;
// [ParseStrict], [CheckNames] and [CheckStreams] are for generators and for
// checking a config before it is used. All report every defect at once, each
// with its place, its path and what was expected:
//
//	orders.json:7:24: methodConfig[0].retryPolicy.maxAttempts: must be greater than 1, got 1
//	orders.json:11:34: methodConfig[0].retryPolicy.retryableStatusCodes[0]: must be a gRPC status code, got "UNAVAILBLE"; did you mean "UNAVAILABLE"?
//
// A [Config] is plain data. A [Policy] is a Config made ready for the calls to
// one server, as call options for each method or as interceptors for a
// connection.
//
// The rules are those of the gRPC proposals A2 (choices, see [ParseChoice]), A6
// (retries, hedging, throttling) and A21 (what makes a config invalid), of
// service_config.proto where they are silent, and of this package where that is
// silent too; each such rule is named where it is kept.
//
// The package is not for the parts of a config that concern the channel, such
// as load balancing.
package serviceconfig
