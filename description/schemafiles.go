package description

import (
	"fmt"
	"sort"
	"strings"
)

// Schemas for editors and validators, written from the table.

// SchemaVersions returns the schema versions that a description is brought up
// to, the older line first.
func SchemaVersions() []string { return []string{v7_6.String(), latestVersion.String()} }

// schemaVersion returns one of SchemaVersions; an empty text is the last.
func schemaVersion(text string) (version, error) {
	if text == "" {
		return latestVersion, nil
	}
	v, err := parseVersion(text)
	if err != nil || !contains(SchemaVersions(), v.String()) {
		return 0, fmt.Errorf("schema version %q has no schema; it is one of %s", text, strings.Join(SchemaVersions(), ", "))
	}
	return v, nil
}

// names gives every element rule reachable in a version a name of its own. An
// element's rule depends on its parent where two share a name, so a second rule
// of a name gets its parent's name before it.
type ruleNames struct {
	version version
	names   map[*elementRule]string
	taken   map[string]bool
	order   []*elementRule
}

func newRuleNames(v version) *ruleNames {
	n := &ruleNames{version: v, names: map[*elementRule]string{}, taken: map[string]bool{}}
	n.visit(imageRule, "")
	return n
}

func (n *ruleNames) visit(rule *elementRule, parent string) {
	if _, ok := n.names[rule]; ok {
		return
	}
	name := rule.Name
	if n.taken[name] {
		name = parent + "." + rule.Name
	}
	for n.taken[name] {
		name += "."
	}
	n.names[rule], n.taken[name] = name, true
	n.order = append(n.order, rule)
	for _, c := range n.children(rule) {
		n.visit(c.Rule, rule.Name)
	}
}

// children returns the children of an element that the version has.
func (n *ruleNames) children(rule *elementRule) []childRule {
	var list []childRule
	for _, c := range rule.Children {
		if inVersion(n.version, c.Rule.Since, c.Rule.Until) {
			list = append(list, c)
		}
	}
	return list
}

// attrs returns the attributes of an element that the version has.
func (n *ruleNames) attrs(rule *elementRule) []attrRule {
	var list []attrRule
	for _, a := range rule.Attrs {
		if inVersion(n.version, a.Since, a.Until) {
			list = append(list, a)
		}
	}
	return list
}

// RelaxNG returns a RELAX NG schema (XML syntax) of descriptions in the given
// version, one of SchemaVersions; empty: the newest. It says what the table
// says of elements, attributes and values; rules between attributes are beyond
// it, such as which image types know an attribute.
func RelaxNG(schemaversion string) ([]byte, error) {
	v, err := schemaVersion(schemaversion)
	if err != nil {
		return nil, err
	}
	w := &rngWriter{names: newRuleNames(v)}
	w.line(0, `<?xml version="1.0" encoding="utf-8"?>`)
	w.line(0, `<!-- Image descriptions in schema %s, for editors and validators. Written by: imgbuild description schema -->`, v)
	w.line(0, `<grammar xmlns="http://relaxng.org/ns/structure/1.0" xmlns:a="http://relaxng.org/ns/compatibility/annotations/1.0" datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">`)
	w.line(1, `<start><ref name="image"/></start>`)
	for _, rule := range w.names.order {
		w.define(rule)
	}
	w.line(1, `<define name="foreign">`)
	w.line(2, `<element><anyName><except><nsName ns=""/></except></anyName>`)
	w.line(3, `<zeroOrMore><choice><attribute><anyName/></attribute><text/><ref name="foreign"/></choice></zeroOrMore>`)
	w.line(2, `</element>`)
	w.line(1, `</define>`)
	w.line(0, `</grammar>`)
	return []byte(w.b.String()), nil
}

type rngWriter struct {
	b     strings.Builder
	names *ruleNames
}

func (w *rngWriter) line(depth int, format string, args ...any) {
	w.b.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(&w.b, format, args...)
	w.b.WriteByte('\n')
}

func (w *rngWriter) doc(depth int, text string) {
	w.line(depth, "<a:documentation>%s</a:documentation>", escape(text, false))
}

// define writes the definition of one element.
func (w *rngWriter) define(rule *elementRule) {
	w.line(1, `<define name="%s">`, w.names.names[rule])
	w.line(2, `<element name="%s">`, rule.Name)
	w.doc(3, rule.Doc)
	if rule.Foreign {
		w.line(3, `<oneOrMore><ref name="foreign"/></oneOrMore>`)
		w.line(2, `</element>`)
		w.line(1, `</define>`)
		return
	}
	attrs, children := w.names.attrs(rule), w.names.children(rule)
	if len(attrs)+len(children) == 0 && rule.Text == nil {
		w.line(3, `<empty/>`)
	} else if len(children) == 0 && rule.Text != nil {
		for i := range attrs {
			w.attribute(rule, &attrs[i])
		}
		w.value(3, rule.Text)
	} else {
		// Attributes stand in the interleave, since libxml2 takes exponential time
		// for many optional ones in a group.
		w.line(3, `<interleave>`)
		for i := range attrs {
			w.attribute(rule, &attrs[i])
		}
		for _, c := range children {
			w.child(c)
		}
		w.line(3, `</interleave>`)
	}
	w.line(2, `</element>`)
	w.line(1, `</define>`)
}

func (w *rngWriter) child(c childRule) {
	ref := fmt.Sprintf(`<ref name="%s"/>`, w.names.names[c.Rule])
	around := map[string]string{optional: "optional", any0: "zeroOrMore", some: "oneOrMore"}[c.Card]
	if around != "" {
		ref = "<" + around + ">" + ref + "</" + around + ">"
	}
	w.line(4, "%s", ref)
}

func (w *rngWriter) attribute(rule *elementRule, a *attrRule) {
	name, ns := a.Name, ""
	if local, ok := strings.CutPrefix(name, "xsi:"); ok {
		name, ns = local, ` ns="http://www.w3.org/2001/XMLSchema-instance"`
	}
	depth := 3
	if !a.Required {
		w.line(depth, `<optional>`)
		depth++
	}
	w.line(depth, `<attribute name="%s"%s>`, name, ns)
	doc := a.Doc
	if types := a.typesIn(w.names.version); types != "" {
		doc += " For image types " + listTypes(types) + "."
	}
	w.doc(depth+1, doc)
	if rule == imageRule && a.Name == "schemaversion" {
		w.line(depth+1, `<value>%s</value>`, w.names.version)
	} else {
		w.value(depth+1, a.valueIn(w.names.version))
	}
	w.line(depth, `</attribute>`)
	if !a.Required {
		w.line(depth-1, `</optional>`)
	}
}

func (w *rngWriter) value(depth int, v *valueRule) {
	switch v.Kind {
	case kindText:
		w.line(depth, `<text/>`)
	case kindBool:
		w.line(depth, `<data type="boolean"/>`)
	case kindInteger:
		if v.Min < 0 {
			w.line(depth, `<data type="integer"/>`)
			return
		}
		w.line(depth, `<data type="nonNegativeInteger"><param name="minInclusive">%d</param></data>`, v.Min)
	case kindPattern:
		w.line(depth, `<data type="token"><param name="pattern">%s</param></data>`, escape(v.source(), false))
	case kindEnum:
		w.line(depth, `<choice>`)
		for _, value := range v.known(w.names.version) {
			w.line(depth+1, `<value>%s</value>`, value)
		}
		w.line(depth, `</choice>`)
	}
}

// source returns a pattern as it was written, without anchors: XML Schema's
// and JSON Schema's expressions know all that the table uses.
func (v *valueRule) source() string {
	return strings.TrimSuffix(strings.TrimPrefix(v.Re.String(), "^(?:"), ")$")
}

// JSONSchema returns a JSON Schema (draft 7) of descriptions in YAML, JSON and
// TOML, with attributes as "@name" or, where that is clear, plain. See RelaxNG.
func JSONSchema(schemaversion string) ([]byte, error) {
	v, err := schemaVersion(schemaversion)
	if err != nil {
		return nil, err
	}
	w := &jsonSchema{names: newRuleNames(v)}
	definitions := object()
	for _, rule := range w.names.order {
		definitions.set(w.names.names[rule], w.element(rule))
	}
	top := object()
	top.set("$schema", scalar("http://json-schema.org/draft-07/schema#"))
	top.set("title", scalar("image description, schema "+v.String()))
	top.set("type", scalar("object"))
	top.set("required", listOf(scalar("image")))
	top.set("additionalProperties", literal("false"))
	top.set("properties", object().set("image", w.ref(imageRule)))
	top.set("definitions", definitions)
	return encodeMarkup(top, FormatJSON)
}

type jsonSchema struct{ names *ruleNames }

func object() *markupNode                 { return &markupNode{kind: markupMap} }
func scalar(s string) *markupNode         { return &markupNode{kind: markupScalar, scalar: s} }
func literal(s string) *markupNode        { return &markupNode{kind: markupScalar, scalar: s, literal: true} }
func listOf(n ...*markupNode) *markupNode { return &markupNode{kind: markupList, list: n} }

// set adds a pair to a mapping and returns it.
func (n *markupNode) set(key string, value *markupNode) *markupNode {
	n.pairs = append(n.pairs, markupPair{key: key, value: value})
	return n
}

func (w *jsonSchema) ref(rule *elementRule) *markupNode {
	return object().set("$ref", scalar("#/definitions/"+w.names.names[rule]))
}

// element returns the schema of what an element holds.
func (w *jsonSchema) element(rule *elementRule) *markupNode {
	if rule.Foreign {
		return object().set("description", scalar(rule.Doc)).set("type", scalar("object"))
	}
	attrs, children := w.names.attrs(rule), w.names.children(rule)
	if rule.Text != nil && len(attrs) == 0 {
		return w.value(rule.Text, rule.Doc, false)
	}
	properties, required := object(), []*markupNode{}
	for i := range attrs {
		a := &attrs[i]
		value := w.value(a.valueIn(w.names.version), a.Doc, rule == imageRule && a.Name == "schemaversion")
		properties.set("@"+a.Name, value)
		plain := rule.child(a.Name) == nil
		if plain {
			properties.set(a.Name, value)
		}
		switch {
		case a.Required && plain:
			required = append(required, object().set("anyOf", listOf(
				object().set("required", listOf(scalar("@"+a.Name))), object().set("required", listOf(scalar(a.Name))))))
		case a.Required:
			required = append(required, object().set("required", listOf(scalar("@"+a.Name))))
		}
	}
	for _, c := range children {
		one := w.ref(c.Rule)
		value := one
		if c.Card == any0 || c.Card == some {
			value = object().set("anyOf", listOf(one, object().set("type", scalar("array")).set("items", one)))
		}
		properties.set(c.Rule.Name, value)
		if c.Card == some || c.Card == "!" {
			required = append(required, object().set("required", listOf(scalar(c.Rule.Name))))
		}
	}
	if rule.Text != nil {
		properties.set("#text", w.value(rule.Text, rule.Doc, false))
	} else if len(children) > 0 {
		properties.set("#text", object().set("type", scalar("string")))
	}
	n := object().set("description", scalar(rule.Doc))
	types := []*markupNode{scalar("object")}
	if len(required) == 0 {
		types = append(types, scalar("null"))
	}
	if rule.Text != nil {
		types = append(types, scalar("string"), scalar("number"), scalar("integer"))
	}
	n.set("type", listOf(types...)).set("additionalProperties", literal("false")).set("properties", properties)
	n.set("patternProperties", object().set("^@?xmlns:", object().set("type", scalar("string"))))
	if len(required) > 0 {
		n.set("allOf", listOf(required...))
	}
	return n
}

// value returns the schema of a value. What YAML reads as a number or a truth
// value may stand for a text.
func (w *jsonSchema) value(v *valueRule, doc string, schemaversion bool) *markupNode {
	n := object().set("description", scalar(doc))
	anyScalar := listOf(scalar("string"), scalar("number"), scalar("boolean"), scalar("null"))
	switch {
	case schemaversion:
		return n.set("enum", listOf(scalar(w.names.version.String()), literal(w.names.version.String())))
	case v.Kind == kindText:
		return n.set("type", anyScalar)
	case v.Kind == kindBool:
		return n.set("enum", listOf(literal("true"), literal("false"), literal("0"), literal("1"),
			scalar("true"), scalar("false"), scalar("0"), scalar("1")))
	case v.Kind == kindInteger:
		pattern := `^\s*[+-]?[0-9]+\s*$`
		if v.Min >= 0 {
			pattern = `^\s*(\+?[0-9]+|-0+)\s*$`
		}
		n.set("type", listOf(scalar("string"), scalar("integer"))).set("pattern", scalar(pattern))
		if v.Min >= 0 {
			n.set("minimum", literal(fmt.Sprint(v.Min)))
		}
		return n
	case v.Kind == kindPattern:
		return n.set("type", listOf(scalar("string"), scalar("number"))).set("pattern", scalar("^("+v.source()+")$"))
	}
	values := v.known(w.names.version)
	sort.Strings(values)
	var list []*markupNode
	for _, value := range values {
		list = append(list, scalar(value))
	}
	return n.set("enum", listOf(list...))
}
