// Package orders holds the messages and stubs of shop.v1.Orders. The client
// that retries is in ordersreprise, below it.
package orders

//go:generate go tool reprise-gen -plugin "go tool protoc-gen-go" -opt paths=source_relative orders.proto
//go:generate go tool reprise-gen -plugin "go tool protoc-gen-go-grpc" -opt paths=source_relative orders.proto
//go:generate go tool reprise-gen -opt paths=source_relative,service_config=orders.json orders.proto
