package testenv

import (
	"fmt"
	"strings"
)

// scanMap reads the only line of a uid_map(5) that maps everything; more than one line is an error.
func scanMap(text string, inside, outside, count *uint64) error {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "\n") {
		return fmt.Errorf("reading an id map: it has several lines")
	}
	_, err := fmt.Sscan(text, inside, outside, count)
	return err
}
