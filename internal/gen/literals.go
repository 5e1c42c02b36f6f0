package gen

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/compiler/protogen"
)

// duration returns a constant expression for d, exact to the nanosecond, in
// the largest unit that d is a whole multiple of.
func duration(g *protogen.GeneratedFile, d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{
		{time.Hour, "Hour"}, {time.Minute, "Minute"}, {time.Second, "Second"},
		{time.Millisecond, "Millisecond"}, {time.Microsecond, "Microsecond"},
	} {
		if n := d / u.unit; d%u.unit == 0 && n != 0 {
			ident := g.QualifiedGoIdent(timePackage.Ident(u.name))
			if n == 1 {
				return ident
			}
			return strconv.FormatInt(int64(n), 10) + " * " + ident
		}
	}
	return strconv.FormatInt(int64(d), 10) + " * " + g.QualifiedGoIdent(timePackage.Ident("Nanosecond"))
}

// decimal returns the shortest decimal that is exactly f.
func decimal(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
