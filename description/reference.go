package description

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// WriteReference writes the reference of the language in Markdown, from the
// same table that validates descriptions.
func WriteReference(w io.Writer) error {
	p := &referencePrinter{}
	p.printf("# The description: reference\n\n")
	p.printf("Every element and attribute of an image description, as `imgbuild` reads them. This page is made from the table that\n")
	p.printf("validates descriptions. [The description](description.md) explains the language.\n\n")
	p.printf("A *?* behind an element's name means that it may be there once, *!* exactly once, `*` any number of times and *+* at\n")
	p.printf("least once. Attributes in **bold** must be there. *Types* are the image types that an attribute has a meaning for; it is an\n")
	p.printf("error for others. *Since* and *until* are schema versions. What is allowed and does nothing, always or because something is\n")
	p.printf("missing that it works with, gets a warning.\n")
	p.element(imageRule, "", nil)
	p.printf("\n## Checks\n\nWhat the language allows and can't work is found before anything is built. Each check can be switched off by its name.\n\n")
	p.printf("A check that only KIWI makes is here so that it can be named.\n\n")
	p.printf("| check | why |\n| --- | --- |\n")
	for _, c := range Checks() {
		reason := c.Reason
		if c.Unneeded != "" {
			reason += " *Not made here: " + c.Unneeded + ".*"
		}
		p.printf("| `%s` | %s |\n", c.ID, reason)
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

type referencePrinter struct {
	b strings.Builder
}

func (p *referencePrinter) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// element writes an element and all below it. path holds the names of those
// that it lies in.
func (p *referencePrinter) element(r *elementRule, card string, path []string) {
	level := "##"
	if len(path) > 1 {
		level = "###"
	}
	p.printf("\n%s %s\n\n", level, strings.Join(append(append([]string(nil), path...), "`<"+r.Name+">`"), " "))
	p.printf("%s%s%s\n", r.Doc, p.limits(r.Types, r.Since, r.Until), r.effect.describe(""))
	if r.Text != nil {
		p.printf("\nText: %s.\n", r.Text.describe())
	}
	p.attrs(r)
	p.children(r, append(append([]string(nil), path...), "`<"+r.Name+">`"))
}

func (p *referencePrinter) attrs(r *elementRule) {
	if len(r.Attrs) == 0 {
		return
	}
	types := false
	for i := range r.Attrs {
		types = types || r.Attrs[i].Types != ""
	}
	header, rule := "| attribute | value | default | what it does |", "| --- | --- | --- | --- |"
	if types {
		header, rule = "| attribute | value | default | types | what it does |", "| --- | --- | --- | --- | --- |"
	}
	p.printf("\n%s\n%s\n", header, rule)
	for i := range r.Attrs {
		a := &r.Attrs[i]
		name := "`" + a.Name + "`"
		if a.Required {
			name = "**" + name + "**"
		}
		def := ""
		if a.Default != "" && !a.Required {
			def = "`" + a.Default + "`"
		}
		p.printf("| %s | %s | %s | ", name, a.Value.describe(), def)
		if types {
			p.printf("%s | ", listTypes(a.Types))
		}
		p.printf("%s%s%s |\n", cell(a.Doc), p.limits("", a.Since, a.Until), cell(a.effect.describe(a.KIWI)))
	}
}

// describe says when a setting does something, and what KIWI does otherwise.
func (f *effect) describe(kiwi string) string {
	text := ""
	switch {
	case f.Idle != "":
		text += " No effect: " + f.Idle + "."
	case f.AtBoot:
		text += " Programs of the image obey it, which find it in `/.profile`."
	}
	if f.For != "" {
		text += " Only for " + listTypes(f.For) + "."
	}
	if f.Needs != nil && f.Idle == "" {
		text += " Works only with " + code(f.Needs.Text) + "."
	}
	if kiwi != "" {
		text += " KIWI " + kiwi + "."
	}
	return text
}

// code marks a text that holds elements or attributes, which Markdown would
// take for its own.
func code(s string) string {
	if strings.ContainsAny(s, "<=") {
		return regexp.MustCompile(`<[^>]*>(?:[a-z]+</[^>]*>)?|[a-z_]+="[^"]*"`).ReplaceAllStringFunc(s, func(m string) string { return "`" + m + "`" })
	}
	return s
}

// cell makes a text fit into a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// describe says in Markdown what a value may be.
func (v *valueRule) describe() string {
	if v.Kind != kindEnum {
		return cell(v.Want)
	}
	var values []string
	for _, value := range v.Enum {
		text := "`" + value + "`"
		switch {
		case v.Since[value] != 0:
			text += " (since " + v.Since[value].String() + ")"
		case v.Until[value] != 0:
			text += " (until " + v.Until[value].String() + ")"
		}
		values = append(values, text)
	}
	return strings.Join(values, ", ")
}

func (p *referencePrinter) limits(types string, since, until version) string {
	var parts []string
	if types != "" {
		parts = append(parts, "for "+listTypes(types))
	}
	if since != 0 {
		parts = append(parts, "since "+since.String())
	}
	if until != 0 {
		parts = append(parts, "until "+until.String())
	}
	if len(parts) == 0 {
		return ""
	}
	return " *(" + strings.Join(parts, "; ") + ")*"
}

// children writes what an element may hold: plain texts as a table, the others
// as sections of their own.
func (p *referencePrinter) children(r *elementRule, path []string) {
	var texts, others []childRule
	for _, c := range r.Children {
		if c.Rule.Text != nil && len(c.Rule.Attrs) == 0 {
			texts = append(texts, c)
		} else {
			others = append(others, c)
		}
	}
	if len(texts) > 0 {
		p.printf("\n| element | text | what it does |\n| --- | --- | --- |\n")
		for _, c := range texts {
			p.printf("| `<%s>` %s | %s | %s%s%s |\n", c.Rule.Name, cardinality(c.Card), c.Rule.Text.describe(), cell(c.Rule.Doc),
				p.limits(c.Rule.Types, c.Rule.Since, c.Rule.Until), cell(c.Rule.effect.describe("")))
		}
	}
	if len(others) > 0 {
		var names []string
		for _, c := range others {
			names = append(names, fmt.Sprintf("`<%s>` %s", c.Rule.Name, cardinality(c.Card)))
		}
		p.printf("\nElements inside: %s.\n", strings.Join(names, ", "))
	}
	for _, c := range others {
		p.element(c.Rule, c.Card, path)
	}
}

func cardinality(card string) string {
	if card == any0 {
		return "`*`"
	}
	return "*" + card + "*"
}
