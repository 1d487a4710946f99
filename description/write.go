package description

import (
	"bytes"
	"strings"
)

// XML returns the description as one file: upgraded, its includes resolved. It
// is what a built root tree keeps as /image/config.xml. Comments stay; white
// space is laid out anew, except inside texts.
func (d *Document) XML() []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\n")
	writeElement(&b, d.root, 0)
	return b.Bytes()
}

func writeElement(b *bytes.Buffer, e *element, depth int) {
	indent := strings.Repeat("    ", depth)
	b.WriteString(indent + "<" + e.name)
	for _, a := range e.attrs {
		b.WriteString(" " + a.name + "=\"" + escape(a.value, true) + "\"")
	}
	if !hasContent(e) {
		b.WriteString("/>\n")
		return
	}
	b.WriteString(">")
	if text := e.text(); strings.TrimSpace(text) != "" && len(e.elements("")) == 0 {
		b.WriteString(escape(strings.TrimSpace(text), false))
		b.WriteString("</" + e.name + ">\n")
		return
	}
	b.WriteString("\n")
	for _, c := range e.children {
		switch {
		case c.elem != nil:
			writeElement(b, c.elem, depth+1)
		case c.comment != "":
			b.WriteString(indent + "    <!--" + c.comment + "-->\n")
		case strings.TrimSpace(c.text) != "":
			b.WriteString(indent + "    " + escape(strings.TrimSpace(c.text), false) + "\n")
		}
	}
	b.WriteString(indent + "</" + e.name + ">\n")
}

// hasContent reports whether anything but white space stands inside.
func hasContent(e *element) bool {
	for _, c := range e.children {
		if c.elem != nil || c.comment != "" || strings.TrimSpace(c.text) != "" {
			return true
		}
	}
	return false
}

// escape quotes a text for XML. Line breaks and tabs of an attribute are
// written as references, since a reader would turn them into blanks.
func escape(s string, attribute bool) string {
	pairs := []string{"&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;"}
	if attribute {
		pairs = append(pairs, "\"", "&quot;", "\n", "&#10;", "\t", "&#9;")
	}
	return strings.NewReplacer(pairs...).Replace(s)
}
