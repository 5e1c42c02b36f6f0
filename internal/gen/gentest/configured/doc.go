// Package configured calls the services of gentest.v1 as kinds.json says.
package configured
