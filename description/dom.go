package description

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds on what a description may be. Real ones stay far below: the largest
// known has some 2,000 elements in 100 KB.
const (
	maxFileSize = 4 << 20 // bytes of one file
	maxDepth    = 64      // nested elements
	maxNodes    = 200_000 // elements, texts and comments of one file
	maxAttrs    = 256     // attributes of one element
)

// element is an element of a description's document tree.
type element struct {
	name     string // with its namespace prefix, if any
	attrs    []attribute
	children []node
	pos      Position
}

// attribute is one attribute of an element.
type attribute struct {
	name  string // with its namespace prefix, if any
	value string
	pos   Position
}

// node is a child of an element: exactly one of its fields is in use.
type node struct {
	elem    *element
	text    string
	comment string
}

// attr returns the value of an attribute, and whether it is there.
func (e *element) attr(name string) (string, bool) {
	for i := range e.attrs {
		if e.attrs[i].name == name {
			return e.attrs[i].value, true
		}
	}
	return "", false
}

// attrPos returns the position of an attribute, or the element's own.
func (e *element) attrPos(name string) Position {
	for i := range e.attrs {
		if e.attrs[i].name == name {
			return e.attrs[i].pos
		}
	}
	return e.pos
}

// setAttr sets an attribute; a new one takes the position at, and so does one that the command line sets.
func (e *element) setAttr(name, value string, at Position) {
	for i := range e.attrs {
		if e.attrs[i].name == name {
			e.attrs[i].value = value
			if at == commandLine {
				e.attrs[i].pos = at
			}
			return
		}
	}
	e.attrs = append(e.attrs, attribute{name: name, value: value, pos: at})
}

// dropAttr removes attributes and returns the last one that was there.
func (e *element) dropAttr(names ...string) (attribute, bool) {
	var dropped attribute
	found := false
	kept := e.attrs[:0]
	for _, a := range e.attrs {
		if contains(names, a.name) {
			dropped, found = a, true
			continue
		}
		kept = append(kept, a)
	}
	e.attrs = kept
	return dropped, found
}

// renameAttr renames an attribute where it is present.
func (e *element) renameAttr(from, to string) {
	for i := range e.attrs {
		if e.attrs[i].name == from {
			e.attrs[i].name = to
		}
	}
}

// elements returns the child elements, of the given name or, for "", all.
func (e *element) elements(name string) []*element {
	var found []*element
	for i := range e.children {
		if c := e.children[i].elem; c != nil && (name == "" || c.name == name) {
			found = append(found, c)
		}
	}
	return found
}

// child returns the first child element of a name, or nil.
func (e *element) child(name string) *element {
	for i := range e.children {
		if c := e.children[i].elem; c != nil && c.name == name {
			return c
		}
	}
	return nil
}

// text returns the text directly inside the element as it is written.
func (e *element) text() string {
	var b strings.Builder
	for i := range e.children {
		b.WriteString(e.children[i].text)
	}
	return b.String()
}

// setText replaces everything inside the element by a text.
func (e *element) setText(text string) {
	e.children = []node{{text: text}}
}

// dropChildren removes the child elements of the given names.
func (e *element) dropChildren(names ...string) {
	kept := e.children[:0]
	for _, c := range e.children {
		if c.elem != nil && contains(names, c.elem.name) {
			continue
		}
		kept = append(kept, c)
	}
	e.children = kept
}

// walk calls fn for the element and everything below it, parents first.
func (e *element) walk(fn func(*element)) {
	fn(e)
	for i := range e.children {
		if c := e.children[i].elem; c != nil {
			c.walk(fn)
		}
	}
}

// clone returns a deep copy.
func (e *element) clone() *element {
	c := *e
	c.attrs = append([]attribute(nil), e.attrs...)
	c.children = make([]node, len(e.children))
	for i, n := range e.children {
		if n.elem != nil {
			n.elem = n.elem.clone()
		}
		c.children[i] = n
	}
	return &c
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// lineIndex turns byte offsets of a file into positions. Columns count
// characters, as editors do. It is quick for offsets that grow, even where a
// file is one long line.
type lineIndex struct {
	file   string
	data   []byte
	offset int // of the position found last
	line   int
	column int
}

func newLineIndex(file string, data []byte) *lineIndex {
	return &lineIndex{file: file, data: data, line: 1, column: 1}
}

func (x *lineIndex) position(offset int) Position {
	offset = min(offset, len(x.data))
	if offset < x.offset {
		x.offset, x.line, x.column = 0, 1, 1
	}
	passed := x.data[x.offset:offset]
	if n := bytes.Count(passed, []byte("\n")); n > 0 {
		x.line += n
		x.column = 1
		passed = passed[bytes.LastIndexByte(passed, '\n')+1:]
	}
	x.column += utf8.RuneCount(passed)
	x.offset = offset
	return Position{File: x.file, Line: x.line, Column: x.column}
}

// domParser builds a tree from an XML file.
type domParser struct {
	lines *lineIndex
	dec   *xml.Decoder
	stack []*element
	root  *element
	nodes int
}

// parseXML reads an XML file into a tree. file is the name for positions. A
// document type declaration is refused, and with it every entity but the five
// of XML itself: a description can neither read other files nor grow by them.
func parseXML(file string, data []byte) (*element, error) {
	p := &domParser{lines: newLineIndex(file, data), dec: xml.NewDecoder(bytes.NewReader(data))}
	// The bytes are UTF-8 by now, whatever the declaration says.
	p.dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	for {
		start := int(p.dec.InputOffset())
		tok, err := p.dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, p.syntaxError(start, err)
		}
		if err := p.token(tok, start); err != nil {
			return nil, err
		}
	}
	if len(p.stack) > 0 {
		open := p.stack[len(p.stack)-1]
		return nil, problem(open.pos, "close it with </"+open.name+">", "element <%s> is not closed", open.name)
	}
	if p.root == nil {
		return nil, problem(start(file), "a description starts with <image>", "the file holds no XML element")
	}
	return p.root, nil
}

// syntaxError turns an error of the decoder into one of ours. The decoder
// stops behind the mistake, so its own offset is the best position.
func (p *domParser) syntaxError(start int, err error) error {
	var syn *xml.SyntaxError
	text := err.Error()
	if errors.As(err, &syn) {
		text = syn.Msg
	}
	offset := int(p.dec.InputOffset())
	if offset < start {
		offset = start
	}
	hint := ""
	if strings.Contains(text, "entity") {
		hint = "write & as &amp;"
	}
	if offset >= len(p.lines.data) && len(p.stack) > 0 {
		open := p.stack[len(p.stack)-1]
		hint = fmt.Sprintf("the element <%s> of %s is still open there", open.name, open.pos)
	}
	return problem(p.lines.position(offset), hint, "not well-formed XML: %s", text)
}

func (p *domParser) token(tok xml.Token, start int) error {
	pos := p.lines.position(start)
	if p.nodes++; p.nodes > maxNodes {
		return problem(pos, "", "the file has more than %d elements", maxNodes)
	}
	switch t := tok.(type) {
	case xml.StartElement:
		return p.startElement(t, start, pos)
	case xml.EndElement:
		return p.endElement(qualified(t.Name), pos)
	case xml.CharData:
		return p.charData(string(t), pos)
	case xml.Comment:
		p.appendNode(node{comment: string(t)})
	case xml.Directive:
		return problem(pos, "remove it; use <include> for parts in other files",
			"a document type declaration is not allowed in a description")
	case xml.ProcInst:
		// The XML declaration and editors' instructions mean nothing here.
	}
	return nil
}

func qualified(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

func (p *domParser) startElement(t xml.StartElement, start int, pos Position) error {
	e := &element{name: qualified(t.Name), pos: pos}
	if len(p.stack) >= maxDepth {
		return problem(pos, "", "elements are nested more than %d deep", maxDepth)
	}
	if len(t.Attr) > maxAttrs {
		return problem(pos, "", "<%s> has more than %d attributes", e.name, maxAttrs)
	}
	tag := p.lines.data[start:int(p.dec.InputOffset())]
	offsets := attributeOffsets(tag)
	if len(offsets) == len(t.Attr) {
		normalizeValues(tag, offsets, t.Attr)
	}
	for i, a := range t.Attr {
		at := pos
		if i < len(offsets) {
			at = p.lines.position(start + offsets[i])
		}
		name := qualified(a.Name)
		if _, twice := e.attr(name); twice {
			return problem(at, "", "attribute %s is given twice", name)
		}
		e.attrs = append(e.attrs, attribute{name: name, value: a.Value, pos: at})
	}
	if at, prefix := p.undeclared(e); prefix != "" {
		return problem(at, fmt.Sprintf("add xmlns:%s=\"...\" to <image>", prefix), "the namespace prefix %s is not declared", prefix)
	}
	if len(p.stack) == 0 {
		if p.root != nil {
			return problem(pos, "", "there is a second top element <%s>", e.name)
		}
		p.root = e
	} else {
		p.appendNode(node{elem: e})
	}
	p.stack = append(p.stack, e)
	return nil
}

// undeclared returns a namespace prefix of the element's or an attribute's name
// that nothing declares, and its place.
func (p *domParser) undeclared(e *element) (Position, string) {
	declared := func(name string) string {
		prefix, _, ok := strings.Cut(name, ":")
		if !ok || prefix == "xml" || prefix == "xmlns" {
			return ""
		}
		for _, outer := range append(p.stack, e) {
			if _, found := outer.attr("xmlns:" + prefix); found {
				return ""
			}
		}
		return prefix
	}
	if prefix := declared(e.name); prefix != "" {
		return e.pos, prefix
	}
	for _, a := range e.attrs {
		if prefix := declared(a.name); prefix != "" {
			return a.pos, prefix
		}
	}
	return e.pos, ""
}

func (p *domParser) endElement(name string, pos Position) error {
	if len(p.stack) == 0 {
		return problem(pos, "", "</%s> closes nothing", name)
	}
	open := p.stack[len(p.stack)-1]
	if open.name != name {
		return problem(pos, fmt.Sprintf("close <%s> first", open.name),
			"</%s> closes nothing: the open element is <%s> of line %d", name, open.name, open.pos.Line)
	}
	p.stack = p.stack[:len(p.stack)-1]
	return nil
}

func (p *domParser) charData(text string, pos Position) error {
	if len(p.stack) == 0 {
		if strings.Trim(text, " \t\r\n\ufeff") != "" {
			return problem(pos, "", "text outside of the top element")
		}
		return nil
	}
	p.appendNode(node{text: text})
	return nil
}

func (p *domParser) appendNode(n node) {
	if len(p.stack) > 0 {
		top := p.stack[len(p.stack)-1]
		top.children = append(top.children, n)
	}
}

// normalizeValues replaces line breaks and tabs that stand in attribute values
// by blanks, as XML 1.0 (section 3.3.3) has it and the decoder does not. Those
// that are written as references stay.
func normalizeValues(tag []byte, offsets []int, attrs []xml.Attr) {
	for i, from := range offsets {
		if !strings.ContainsAny(attrs[i].Value, "\n\r\t") {
			continue
		}
		end := len(tag)
		if i+1 < len(offsets) {
			end = offsets[i+1]
		}
		raw := strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\t", " ").Replace(strings.TrimRight(string(tag[from:end]), "/> \t\r\n"))
		dec := xml.NewDecoder(strings.NewReader("<a " + raw + "/>"))
		if tok, err := dec.RawToken(); err == nil {
			if again, ok := tok.(xml.StartElement); ok && len(again.Attr) == 1 {
				attrs[i].Value = again.Attr[0].Value
			}
		}
	}
}

// attributeOffsets returns where each attribute name begins in the raw text
// of a start tag, which the decoder has found to be well-formed.
func attributeOffsets(tag []byte) []int {
	var offsets []int
	i := bytes.IndexAny(tag, " \t\r\n")
	for i >= 0 && i < len(tag) {
		for i < len(tag) && bytes.IndexByte([]byte(" \t\r\n/>"), tag[i]) >= 0 {
			i++
		}
		if i >= len(tag) {
			break
		}
		offsets = append(offsets, i)
		open := bytes.IndexAny(tag[i:], `"'`)
		if open < 0 {
			break
		}
		i += open
		end := bytes.IndexByte(tag[i+1:], tag[i])
		if end < 0 {
			break
		}
		i += end + 2
	}
	return offsets
}
