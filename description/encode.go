package description

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Format is a language that a description can be written in.
type Format string

// The languages. They hold the same tree.
const (
	FormatXML  Format = "xml"
	FormatYAML Format = "yaml"
	FormatJSON Format = "json"
	FormatTOML Format = "toml"
)

// ParseFormat returns the format of a name, which is also the extension of its
// files; yml is yaml.
func ParseFormat(name string) (Format, error) {
	all := []string{string(FormatXML), string(FormatYAML), string(FormatJSON), string(FormatTOML)}
	switch name = strings.ToLower(name); {
	case name == "yml":
		return FormatYAML, nil
	case contains(all, name):
		return Format(name), nil
	}
	return "", fmt.Errorf("format %q is not known; it is one of %s", name, strings.Join(all, ", "))
}

// Encode returns the description as one file in the given format: upgraded,
// its includes resolved. In YAML, JSON and TOML an attribute is "@name" and the
// text of an element that has attributes "#text"; comments stay in XML and, as
// far as they stand before elements, in YAML.
func (d *Document) Encode(f Format) ([]byte, error) {
	if f == FormatXML {
		return d.XML(), nil
	}
	top := &markupNode{kind: markupMap, pairs: []markupPair{{key: d.root.name, value: elementMarkup(d.root)}}}
	return encodeMarkup(top, f)
}

// Encode returns the description that the image was made from, as XML does, in
// the given format.
func (img *Image) Encode(f Format) ([]byte, error) {
	return img.withoutSecrets().Encode(f)
}

// elementMarkup returns what an element holds as a value.
func elementMarkup(e *element) *markupNode {
	n := &markupNode{kind: markupMap}
	for _, a := range e.attrs {
		n.pairs = append(n.pairs, markupPair{key: "@" + a.name, value: &markupNode{kind: markupScalar, scalar: a.value}})
	}
	inner := e.elements("")
	if text := strings.TrimSpace(e.text()); text != "" && len(inner) == 0 {
		value := &markupNode{kind: markupScalar, scalar: text}
		if len(n.pairs) == 0 {
			return value
		}
		n.pairs = append(n.pairs, markupPair{key: "#text", value: value})
	}
	at := map[string]int{} // where each name stands in n.pairs
	comment := ""
	for _, c := range e.children {
		if c.comment != "" {
			comment += c.comment + "\n"
		}
		if c.elem == nil {
			continue
		}
		value := elementMarkup(c.elem)
		value.comment, comment = strings.TrimRight(comment, "\n"), ""
		i, again := at[c.elem.name]
		switch {
		case !again:
			at[c.elem.name] = len(n.pairs)
			n.pairs = append(n.pairs, markupPair{key: c.elem.name, value: value})
		case n.pairs[i].value.kind == markupList:
			n.pairs[i].value.list = append(n.pairs[i].value.list, value)
		default:
			n.pairs[i].value = &markupNode{kind: markupList, list: []*markupNode{n.pairs[i].value, value}}
		}
	}
	if len(n.pairs) == 0 {
		return &markupNode{kind: markupNull}
	}
	return n
}

// encodeMarkup writes a value in one of the formats but XML.
func encodeMarkup(n *markupNode, f Format) ([]byte, error) {
	var b bytes.Buffer
	switch f {
	case FormatYAML:
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(n.yaml()); err != nil {
			return nil, fmt.Errorf("writing YAML: %w", err)
		}
	case FormatJSON:
		n.writeJSON(&b, "")
		b.WriteByte('\n')
	case FormatTOML:
		n.writeTOML(&b, nil)
	default:
		return nil, fmt.Errorf("format %q is not known", f)
	}
	return b.Bytes(), nil
}

// yaml returns the value as YAML's library has it.
func (n *markupNode) yaml() *yaml.Node {
	y := &yaml.Node{HeadComment: n.comment}
	switch n.kind {
	case markupNull:
		y.Kind, y.Tag, y.Value = yaml.ScalarNode, "!!null", "null"
	case markupScalar:
		y.Kind, y.Value = yaml.ScalarNode, n.scalar
		if !n.literal {
			y.Tag = "!!str"
			if !plainYAML(n.scalar) && !strings.Contains(n.scalar, "\n") {
				y.Style = yaml.DoubleQuotedStyle
			}
		}
	case markupList:
		y.Kind = yaml.SequenceNode
		for _, item := range n.list {
			y.Content = append(y.Content, item.yaml())
		}
	case markupMap:
		y.Kind = yaml.MappingNode
		for _, p := range n.pairs {
			value := p.value.yaml()
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p.key, HeadComment: value.HeadComment}
			value.HeadComment = ""
			y.Content = append(y.Content, key, value)
		}
	}
	return y
}

// plainForm is a text that no version of YAML takes for anything else, but for
// some words.
var plainForm = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./+@,-]*( [A-Za-z0-9_./+@,-]+)*$`)

// plainYAML reports whether a text needs no quotes: YAML 1.1, which KIWI reads,
// takes more words for truth values than YAML 1.2.
func plainYAML(s string) bool {
	reserved := []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
	return plainForm.MatchString(s) && !contains(reserved, strings.ToLower(s))
}

func (n *markupNode) writeJSON(b *bytes.Buffer, indent string) {
	inner := indent + "  "
	switch n.kind {
	case markupNull:
		b.WriteString("null")
	case markupScalar:
		b.WriteString(n.quoted())
	case markupList:
		writeItems(b, "[", "]", indent, len(n.list), func(i int) { n.list[i].writeJSON(b, inner) })
	case markupMap:
		writeItems(b, "{", "}", indent, len(n.pairs), func(i int) {
			b.WriteString(quote(n.pairs[i].key) + ": ")
			n.pairs[i].value.writeJSON(b, inner)
		})
	}
}

// writeItems writes a bracketed list, one item a line.
func writeItems(b *bytes.Buffer, open, end, indent string, count int, item func(int)) {
	b.WriteString(open)
	for i := range count {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n" + indent + "  ")
		item(i)
	}
	if count > 0 {
		b.WriteString("\n" + indent)
	}
	b.WriteString(end)
}

// quoted returns a scalar as JSON and TOML write it.
func (n *markupNode) quoted() string {
	if n.literal {
		return n.scalar
	}
	return quote(n.scalar)
}

// quote returns a text in quotes, with the escapes that JSON and TOML share.
func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""` // a string can always be encoded
	}
	return strings.ReplaceAll(strings.TrimRight(b.String(), "\n"), "\x7f", `\u007f`)
}

// writeTOML writes the pairs of a mapping below its header: first values, then
// tables, since a value behind a table's header would belong to that table.
func (n *markupNode) writeTOML(b *bytes.Buffer, path []string) {
	for _, p := range n.pairs {
		switch {
		case p.value.kind == markupScalar:
			b.WriteString(tomlKey(p.key) + " = " + p.value.quoted() + "\n")
		case p.value.kind == markupList && p.value.allScalars():
			items := make([]string, len(p.value.list))
			for i, item := range p.value.list {
				items[i] = item.quoted()
			}
			b.WriteString(tomlKey(p.key) + " = [" + strings.Join(items, ", ") + "]\n")
		}
	}
	for _, p := range n.pairs {
		below := append(path[:len(path):len(path)], tomlKey(p.key))
		header := strings.Join(below, ".")
		switch {
		case p.value.kind == markupMap || p.value.kind == markupNull:
			b.WriteString("\n[" + header + "]\n")
			p.value.writeTOML(b, below)
		case p.value.kind == markupList && !p.value.allScalars():
			for _, item := range p.value.list {
				b.WriteString("\n[[" + header + "]]\n")
				if item.kind == markupScalar {
					item = &markupNode{kind: markupMap, pairs: []markupPair{{key: "#text", value: item}}}
				}
				item.writeTOML(b, below)
			}
		}
	}
}

// allScalars reports whether a list holds nothing but scalars.
func (n *markupNode) allScalars() bool {
	for _, item := range n.list {
		if item.kind != markupScalar {
			return false
		}
	}
	return true
}

// tomlKey quotes a key where it has to be.
func tomlKey(key string) string {
	for _, r := range key {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return quote(key)
		}
	}
	return key
}
