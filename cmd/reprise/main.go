// Command reprise runs real drills of retry policies.
package main

func main() {}
