package filesystem

import (
	"fmt"
	"strings"
)

// option is one argument of a program that takes single letters.
type option struct {
	letter byte
	value  string // "" for one without
}

// parseOptions reads words as getopt(3) does. Letters that take a value are followed by a colon in spec.
func parseOptions(words []string, spec string) ([]option, error) {
	var options []option
	for i := 0; i < len(words); i++ {
		word := words[i]
		if len(word) < 2 || word[0] != '-' || word[1] == '-' {
			return nil, fmt.Errorf("%q is no option", word)
		}
		for at := 1; at < len(word); at++ {
			letter := word[at]
			pos := strings.IndexByte(spec, letter)
			if pos < 0 || letter == ':' {
				return nil, fmt.Errorf("-%c is not known", letter)
			}
			if pos+1 >= len(spec) || spec[pos+1] != ':' {
				options = append(options, option{letter, ""})
				continue
			}
			value := word[at+1:]
			if value == "" {
				if i++; i == len(words) {
					return nil, fmt.Errorf("-%c needs a value", letter)
				}
				value = words[i]
			}
			options = append(options, option{letter, value})
			break
		}
	}
	return options, nil
}

// value returns the last value of a letter and whether it is given.
func value(options []option, letter byte) (string, bool) {
	for i := len(options) - 1; i >= 0; i-- {
		if options[i].letter == letter {
			return options[i].value, true
		}
	}
	return "", false
}

// arguments turns options into words.
func arguments(options []option) []string {
	var words []string
	for _, o := range options {
		words = append(words, "-"+string(o.letter))
		if o.value != "" {
			words = append(words, o.value)
		}
	}
	return words
}
