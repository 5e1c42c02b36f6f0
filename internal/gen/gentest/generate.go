// Package gentest holds services that show and test what the generator makes
// of each kind of method and of each field of a service config.
package gentest

//go:generate go run ../../../cmd/reprise-gen -plugin "go run google.golang.org/protobuf/cmd/protoc-gen-go" -opt module=github.com/reprise-go/reprise/internal/gen/gentest kinds.proto codes/codes.proto
//go:generate go run ../../../cmd/reprise-gen -plugin "go run google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2" -opt module=github.com/reprise-go/reprise/internal/gen/gentest kinds.proto
//go:generate go run ../../../cmd/reprise-gen -plugin "go run google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1" -opt module=github.com/reprise-go/reprise/internal/gen/gentest,use_generic_streams_experimental=false codes/codes.proto
//go:generate go run ../../../cmd/reprise-gen -opt module=github.com/reprise-go/reprise/internal/gen/gentest kinds.proto
//go:generate go run ../../../cmd/reprise-gen -opt module=github.com/reprise-go/reprise/internal/gen/gentest,service_config=kinds.json,package=github.com/reprise-go/reprise/internal/gen/gentest/configured kinds.proto
//go:generate go run ../../../cmd/reprise-gen -opt module=github.com/reprise-go/reprise/internal/gen/gentest,service_config=codes/codes.json,suffix=_client,max_attempts=7 codes/codes.proto
