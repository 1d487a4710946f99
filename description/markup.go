package description

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Descriptions in YAML, JSON and TOML. They hold the same tree as XML: a mapping is
// an element, "@name" an attribute, "#text" a text beside attributes, a list
// several elements of one name. The @ may be left out where the table knows an
// attribute and no element of the name.

// markupNode is a value of such a document.
type markupNode struct {
	pos    Position
	kind   markupKind
	scalar string
	pairs  []markupPair
	list   []*markupNode
	// literal says that a scalar is a number or a truth value and no text;
	// comment stands before the value. Both are only for writing.
	literal bool
	comment string
}

type markupKind uint8

const (
	markupNull markupKind = iota
	markupScalar
	markupMap
	markupList
)

type markupPair struct {
	key   string
	pos   Position
	value *markupNode
}

// formatOf returns the format that the content of a file shows.
func formatOf(data []byte) Format {
	begin := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(begin) == 0 || begin[0] == '<':
		return FormatXML
	case begin[0] == '{':
		return FormatJSON
	case looksLikeTOML(begin):
		return FormatTOML
	}
	return FormatYAML
}

// parse reads a file in the language that its content shows.
func parse(name string, data []byte) (*element, Format, error) {
	data, err := toUTF8(name, data)
	if err != nil {
		return nil, "", err
	}
	format := formatOf(data)
	if format == FormatXML {
		root, err := parseXML(name, data)
		return root, format, err
	}
	read := map[Format]func(string, []byte) (*markupNode, error){
		FormatJSON: parseJSON, FormatTOML: parseTOML, FormatYAML: parseYAML,
	}[format]
	tree, err := read(name, data)
	if err != nil {
		return nil, format, err
	}
	root, err := markupElement(name, tree)
	return root, format, err
}

// markupElement turns a document into the tree that its XML form would give.
func markupElement(name string, tree *markupNode) (*element, error) {
	if tree.kind != markupMap || len(tree.pairs) != 1 || tree.pairs[0].value.kind == markupList {
		return nil, problem(start(name), "a description in YAML starts with image:, in XML with <image>",
			"the document is not a mapping with the one key image")
	}
	top := tree.pairs[0]
	var rule *elementRule
	if top.key == imageRule.Name {
		rule = imageRule
	}
	b := &markupBuilder{}
	root := b.element(top.key, top.pos, top.value, rule, 0)
	return root, b.errors.err()
}

type markupBuilder struct {
	errors Errors
	nodes  int
}

// element makes an element of a value. rule is nil below what the table does
// not know.
func (b *markupBuilder) element(name string, pos Position, n *markupNode, rule *elementRule, depth int) *element {
	e := &element{name: name, pos: pos}
	if b.nodes++; b.nodes > maxNodes || depth > maxDepth {
		if len(b.errors) == 0 {
			b.errors.add(pos, "", "the document is too large or too deep")
		}
		return e
	}
	switch n.kind {
	case markupScalar:
		e.setText(n.scalar)
	case markupMap:
		for _, p := range n.pairs {
			b.pair(e, p, rule, depth)
		}
	case markupList:
		b.errors.add(n.pos, "", "a list inside of a list has no meaning")
	}
	return e
}

// pair adds one key of a mapping to its element.
func (b *markupBuilder) pair(e *element, p markupPair, rule *elementRule, depth int) {
	attr, isAttr := strings.CutPrefix(p.key, "@")
	if !isAttr && (strings.HasPrefix(p.key, "xmlns:") || rule != nil && rule.attr(p.key) != nil && rule.child(p.key) == nil) {
		attr, isAttr = p.key, true
	}
	switch {
	case isAttr && p.value.kind == markupNull:
		e.attrs = append(e.attrs, attribute{name: attr, pos: p.pos})
	case isAttr && p.value.kind == markupScalar:
		e.attrs = append(e.attrs, attribute{name: attr, value: p.value.scalar, pos: p.pos})
	case isAttr:
		b.errors.add(p.pos, "", "attribute %s of %s is not a single value", attr, e.name)
	case p.key == "#text":
		e.children = append(e.children, node{text: p.value.scalar})
	default:
		var below *elementRule
		if rule != nil && rule.child(p.key) != nil {
			below = rule.child(p.key).Rule
		}
		values := []*markupNode{p.value}
		if p.value.kind == markupList {
			values = p.value.list
		}
		for _, v := range values {
			pos := p.pos
			if p.value.kind == markupList {
				pos = v.pos
			}
			e.children = append(e.children, node{elem: b.element(p.key, pos, v, below, depth+1)})
		}
	}
}

// parseYAML reads a YAML document.
func parseYAML(name string, data []byte) (*markupNode, error) {
	var doc yaml.Node
	err := yaml.Unmarshal(data, &doc)
	if err == nil && len(doc.Content) != 1 {
		err = errors.New("the document is empty")
	}
	if err != nil {
		line := 1
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if _, scanErr := fmt.Sscanf(text, "line %d:", &line); scanErr == nil {
			_, text, _ = strings.Cut(text, ": ")
		}
		return nil, problem(Position{File: name, Line: line, Column: 1}, "", "not a description: neither XML, JSON, TOML nor well-formed YAML: %s", text)
	}
	y := &yamlReader{file: name, path: map[*yaml.Node]bool{}}
	tree := y.read(doc.Content[0], 0)
	return tree, y.errors.err()
}

// yamlReader turns YAML nodes into ours. Aliases are followed within the same
// bounds as everything else.
type yamlReader struct {
	file   string
	nodes  int
	path   map[*yaml.Node]bool // anchors that the walk is inside of
	errors Errors
}

func (y *yamlReader) read(n *yaml.Node, depth int) *markupNode {
	m := &markupNode{pos: Position{File: y.file, Line: n.Line, Column: n.Column}}
	if y.nodes++; y.nodes > maxNodes || depth > maxDepth || y.path[n] {
		if len(y.errors) == 0 {
			y.errors.add(m.pos, "", "the document is too large, too deep, or holds itself")
		}
		return m
	}
	y.path[n] = true
	defer delete(y.path, n)
	switch n.Kind {
	case yaml.AliasNode:
		return y.read(n.Alias, depth+1)
	case yaml.ScalarNode:
		if n.Tag != "!!null" {
			m.kind, m.scalar = markupScalar, n.Value
		}
	case yaml.SequenceNode:
		m.kind = markupList
		for _, c := range n.Content {
			m.list = append(m.list, y.read(c, depth+1))
		}
	case yaml.MappingNode:
		m.kind = markupMap
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			pos := Position{File: y.file, Line: key.Line, Column: key.Column}
			if key.Kind != yaml.ScalarNode || seen[key.Value] {
				y.errors.add(pos, "", "the key %q is there twice, or is not a name", key.Value)
				continue
			}
			seen[key.Value] = true
			m.pairs = append(m.pairs, markupPair{key.Value, pos, y.read(n.Content[i+1], depth+1)})
		}
	}
	return m
}

// parseJSON reads a JSON document.
func parseJSON(name string, data []byte) (*markupNode, error) {
	j := &jsonReader{lines: newLineIndex(name, data), data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	j.dec.UseNumber()
	tree, err := j.read(0)
	if err == nil {
		if _, more := j.dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind the end of the document")
		}
	}
	if err != nil {
		return nil, problem(j.lines.position(int(j.dec.InputOffset())), "", "not well-formed JSON: %v", err)
	}
	return tree, nil
}

type jsonReader struct {
	lines *lineIndex
	data  []byte
	dec   *json.Decoder
	nodes int
}

// next returns the position of the token that comes next.
func (j *jsonReader) next() Position {
	at := int(j.dec.InputOffset())
	for at < len(j.data) && bytes.IndexByte([]byte(" \t\r\n,:"), j.data[at]) >= 0 {
		at++
	}
	return j.lines.position(at)
}

func (j *jsonReader) read(depth int) (*markupNode, error) {
	n := &markupNode{pos: j.next()}
	if j.nodes++; j.nodes > maxNodes || depth > maxDepth {
		return nil, errors.New("the document is too large or too deep")
	}
	tok, err := j.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		return n, j.inside(n, t, depth)
	case string:
		n.kind, n.scalar = markupScalar, t
	case json.Number:
		n.kind, n.scalar = markupScalar, t.String()
	case bool:
		n.kind, n.scalar = markupScalar, fmt.Sprint(t)
	}
	return n, nil
}

// inside reads an object or array after its opening delimiter.
func (j *jsonReader) inside(n *markupNode, open json.Delim, depth int) error {
	n.kind = markupList
	if open == '{' {
		n.kind = markupMap
	}
	seen := map[string]bool{}
	for j.dec.More() {
		var key string
		pos := j.next()
		if n.kind == markupMap {
			tok, err := j.dec.Token()
			if err != nil {
				return err
			}
			if key, _ = tok.(string); seen[key] {
				return fmt.Errorf("the key %q is there twice", key)
			}
			seen[key] = true
		}
		value, err := j.read(depth + 1)
		if err != nil {
			return err
		}
		if n.kind == markupMap {
			n.pairs = append(n.pairs, markupPair{key, pos, value})
		} else {
			n.list = append(n.list, value)
		}
	}
	_, err := j.dec.Token() // the closing delimiter
	return err
}
