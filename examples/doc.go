// Package examples is a service of a user's own, from the .proto file to a
// client that rides through failures. It uses only what Reprise makes public.
//
//   - orders: the service, its gRPC service config, and the code generated
//     from both
//   - shop: a server, with a script of failures
//   - customer: a client
//   - cmd/shop-server and cmd/shop-client: the two as programs
//
// To see them talk:
//
//	go run ./cmd/shop-server -script "Place=lost Get=UNAVAILABLE,UNAVAILABLE"
//	go run ./cmd/shop-client -v
package examples
