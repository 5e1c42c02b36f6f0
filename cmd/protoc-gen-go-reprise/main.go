// Protoc-gen-go-reprise is a plugin of protoc and buf that generates clients
// which call gRPC services through Reprise: with retries, timeouts, hedging and
// limits from a gRPC service config.
//
//	protoc --go_out=. --go-grpc_out=. --go-reprise_out=. \
//	    --go-reprise_opt=service_config=orders.json orders.proto
//
// The generated code needs the code of protoc-gen-go and protoc-gen-go-grpc.
// docs/codegen.md has the parameters and the other ways to run the plugin.
package main

import (
	"google.golang.org/protobuf/compiler/protogen"

	"github.com/reprise-go/reprise/internal/gen"
)

func main() {
	var opts gen.Options
	protogen.Options{ParamFunc: opts.Set}.Run(opts.Generate)
}
