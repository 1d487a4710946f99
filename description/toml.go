package description

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Descriptions in TOML: tables are elements, otherwise as in YAML.

// tomlLine finds a table header or a key at the start of a line.
var tomlLine = regexp.MustCompile(`^[ \t]*(?:(\[\[?)[ \t]*([^\[\]]+?)[ \t]*\]\]?|([A-Za-z0-9_@#."'\-]+(?:[ \t]*\.[ \t]*[A-Za-z0-9_@#"'\-]+)*)[ \t]*=)`)

// looksLikeTOML reports whether the first line that is not a comment is one of
// TOML.
func looksLikeTOML(data []byte) bool {
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		trimmed := bytes.TrimSpace(line)
		if len(trimmed) > 0 && trimmed[0] != '#' {
			return tomlLine.Match(line)
		}
		data = rest
	}
	return false
}

// parseTOML reads a TOML document.
func parseTOML(name string, data []byte) (*markupNode, error) {
	var values map[string]any
	if _, err := toml.Decode(string(data), &values); err != nil {
		pos := start(name)
		text := err.Error()
		var parse toml.ParseError
		if errors.As(err, &parse) {
			text = parse.Message
			pos.Line, pos.Column = max(parse.Position.Line, 1), max(parse.Position.Col, 1)
		}
		return nil, problem(pos, "", "not well-formed TOML: %s", text)
	}
	t := &tomlReader{file: name, places: tomlPlaces(name, data)}
	return t.read(nil, start(name), values), t.errors.err()
}

type tomlReader struct {
	file   string
	places map[string]Position
	errors Errors
}

// place returns where a key is written; keys inside of a value on one line
// stand where that value's own key stands.
func (t *tomlReader) place(path []string, outer Position) Position {
	if pos, ok := t.places[strings.Join(path, "\x00")]; ok {
		return pos
	}
	return outer
}

func (t *tomlReader) read(path []string, pos Position, value any) *markupNode {
	n := &markupNode{pos: pos, kind: markupScalar}
	path = path[:len(path):len(path)]
	switch v := value.(type) {
	case map[string]any:
		n.kind = markupMap
		for key, item := range v {
			below := append(path, key)
			at := t.place(below, pos)
			n.pairs = append(n.pairs, markupPair{key, at, t.read(below, at, item)})
		}
		sort.Slice(n.pairs, func(i, j int) bool {
			a, b := n.pairs[i], n.pairs[j]
			if a.pos != b.pos {
				return a.pos.Line < b.pos.Line || a.pos.Line == b.pos.Line && a.pos.Column < b.pos.Column
			}
			return a.key < b.key
		})
	case []map[string]any:
		n.kind = markupList
		for i, item := range v {
			below := append(path, strconv.Itoa(i))
			n.list = append(n.list, t.read(below, t.place(below, pos), item))
		}
	case []any:
		n.kind = markupList
		for _, item := range v {
			n.list = append(n.list, t.read(path, pos, item))
		}
	case string:
		n.scalar = v
	case bool, int64:
		n.scalar = fmt.Sprint(v)
	case float64:
		n.scalar = strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		t.errors.add(pos, "write it as a text in quotes", "a date has no meaning in a description")
	}
	return n
}

// tomlPlaces returns where each table and key is written, by its path. An
// element of an array of tables has its number in the path.
func tomlPlaces(name string, data []byte) map[string]Position {
	places := map[string]Position{}
	counts := map[string]int{} // tables of each array so far
	var table []string
	lines := newLineIndex(name, data)
	inside := "" // the end of the multi-line text that the walk is in
	depth := 0   // open brackets of a value
	offset := 0
	for _, line := range bytes.SplitAfter(data, []byte("\n")) {
		if m := tomlLine.FindSubmatchIndex(line); m != nil && inside == "" && depth == 0 {
			switch {
			case m[2] >= 0:
				table = tablePath(string(line[m[4]:m[5]]), m[3]-m[2] == 2, counts)
				places[strings.Join(table, "\x00")] = lines.position(offset + m[2])
				line, offset = line[m[1]:], offset+m[1]
			default:
				path := table[:len(table):len(table)]
				for _, key := range tomlKeys(string(line[m[6]:m[7]])) {
					path = append(path, key)
					if _, ok := places[strings.Join(path, "\x00")]; !ok {
						places[strings.Join(path, "\x00")] = lines.position(offset + m[6])
					}
				}
			}
		}
		inside, depth = tomlState(line, inside, depth)
		offset += len(line)
	}
	return places
}

// tablePath returns the path of a table header with the numbers of the arrays
// of tables in it.
func tablePath(header string, array bool, counts map[string]int) []string {
	var path []string
	keys := tomlKeys(header)
	for i, key := range keys {
		path = append(path, key)
		joined := strings.Join(path, "\x00")
		if array && i == len(keys)-1 {
			counts[joined]++
		}
		if n := counts[joined]; n > 0 {
			path = append(path, strconv.Itoa(n-1))
		}
	}
	return path
}

// tomlKeys splits a dotted key.
func tomlKeys(s string) []string {
	var keys []string
	for _, key := range strings.Split(s, ".") {
		keys = append(keys, strings.Trim(strings.TrimSpace(key), `"'`))
	}
	return keys
}

// tomlState follows texts and brackets that go over several lines.
func tomlState(line []byte, inside string, depth int) (string, int) {
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		switch {
		case inside != "":
			if line[i] == '\\' && inside[0] == '"' {
				i++
			} else if bytes.HasPrefix(rest, []byte(inside)) {
				i += len(inside) - 1
				inside = ""
			} else if line[i] == '\n' && len(inside) == 1 {
				inside = ""
			}
		case bytes.HasPrefix(rest, []byte(`"""`)), bytes.HasPrefix(rest, []byte(`'''`)):
			inside = string(rest[:3])
			i += 2
		case line[i] == '"', line[i] == '\'':
			inside = string(line[i])
		case line[i] == '#':
			return inside, depth
		case line[i] == '[', line[i] == '{':
			depth++
		case line[i] == ']', line[i] == '}':
			depth = max(depth-1, 0)
		}
	}
	return inside, depth
}
