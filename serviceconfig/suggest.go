package serviceconfig

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// didYouMean returns a clause that proposes the candidate nearest to word, or
// nothing if none is near. Case, underscores and hyphens do not count, so that
// the snake_case name of a field finds its JSON name.
func didYouMean(word string, candidates []string) string {
	plain := fold(word)
	if len(plain) > 200 {
		return "" // no name is that long
	}
	best, least := "", math.MaxInt
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		other := fold(c)
		near := max(len(plain), len(other)) / 3 // of its letters may differ
		if d := distance(plain, other); d <= near && d < least {
			best, least = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance counts the insertions, deletions and substitutions of bytes that
// make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
