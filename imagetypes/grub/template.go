package grub

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// placeholder is what Python's string.Template replaces: $$, $name and ${name}, or a dollar sign that is none of these.
var placeholder = regexp.MustCompile(`\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\}|)`)

// Fill replaces the variables of a description's template for grub.cfg, as KIWI does: $name and ${name} by their values, $$ by one dollar sign.
func Fill(template string, values map[string]string) (string, error) {
	var wrong error
	text := placeholder.ReplaceAllStringFunc(template, func(found string) string {
		name := strings.Trim(found, "${}")
		value, known := values[name]
		switch {
		case found == "$$":
			return "$"
		case name == "":
			wrong = fmt.Errorf("a single $ stands for nothing; write $$ for one in the result")
		case !known:
			var names []string
			for name := range values {
				names = append(names, name)
			}
			slices.Sort(names)
			wrong = fmt.Errorf("there is no variable %s; there are %s, and $$ stands for a dollar sign", name, strings.Join(names, ", "))
		}
		return value
	})
	return text, wrong
}
