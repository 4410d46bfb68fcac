package fsm

import (
	"fmt"
	"time"
)

// Wall is a wall clock time in milliseconds since 1970, UTC; zero is "unset". It is for display only: no rule of this
// package compares two of them.
type Wall int64

const wallLayout = "2006-01-02T15:04:05.000Z"

// latestWall is the last millisecond of the year 9999, the latest that RFC 3339 can say.
const latestWall Wall = 253402300799999

// WallOf rounds t down to milliseconds. The zero time.Time gives the zero Wall, and so does every time outside
// 1970..9999.
func WallOf(t time.Time) Wall {
	if w := Wall(t.UnixMilli()); w.valid() {
		return w
	}
	return 0
}

// Time returns the time in UTC; the zero Wall gives the zero time.Time.
func (w Wall) Time() time.Time {
	if w == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(w)).UTC()
}

// String returns RFC 3339 in UTC with milliseconds, or "" for the zero Wall.
func (w Wall) String() string {
	if w == 0 {
		return ""
	}
	return w.Time().Format(wallLayout)
}

// MarshalText writes String.
func (w Wall) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (w *Wall) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*w = 0
		return nil
	}
	t, err := time.Parse(wallLayout, string(b))
	if err != nil {
		return fmt.Errorf("parse wall clock time %q: %w", b, err)
	}
	*w = Wall(t.UnixMilli())
	if !w.valid() {
		return fmt.Errorf("parse wall clock time %q: not in 1970..9999", b)
	}
	return nil
}

func (w Wall) valid() bool { return w >= 0 && w <= latestWall }
