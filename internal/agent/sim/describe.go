package sim

import (
	"encoding/json"
	"fmt"
)

// describe prints an event or an action in one line, pointers followed.
func describe(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%T %+v", v, v)
	}
	return fmt.Sprintf("%T%s", v, b)
}
