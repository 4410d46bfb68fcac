package syntax

import "strings"

// Nearest returns the candidate that word was most likely meant to be. ok is false if none is close: at most a third of
// the letters may differ. Of several at the same distance the first in the order of their bytes wins.
func Nearest(word string, candidates []string) (nearest string, ok bool) {
	limit := (len(word) + 1) / 3
	if limit > 3 {
		limit = 3
	}
	if len(word) > maxNearest || len(word) < 2 {
		return "", false
	}
	best := limit + 1
	for _, c := range candidates {
		if c == word || len(c) > maxNearest {
			continue
		}
		d := distance(word, c, best+1)
		if strings.EqualFold(word, c) {
			d = 0
		}
		if d < best || d == best && d <= limit && c < nearest {
			best, nearest = d, c
		}
	}
	return nearest, best <= limit
}

// maxNearest bounds the length of the words that are compared.
const maxNearest = 64

// distance is the number of letters to insert, remove, change or swap with their neighbour to get from a to b (optimal
// string alignment), or any number of at least limit if it is not below it. Neither is longer than maxNearest.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var rows [3][maxNearest + 1]int
	older, old, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		old[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return limit // a swap reaches one row further back, and gains one
		}
		older, old, row = old, row, older
	}
	return old[len(b)]
}
