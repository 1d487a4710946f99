package description

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// decode fills the tagged fields of a struct of the model from an element.
// A tag is the name of an attribute and options:
//
//	child   the value is the text of a child element of that name
//	mib     a size with unit, into MiB
//	words   a list with blanks between
//	commas  a list with commas between
//
// The table gives the value of what is absent. The tree has been validated,
// so a value that does not fit is a mistake of the table and is returned.
func decode(e *element, rule *elementRule, into any) error {
	v := reflect.ValueOf(into).Elem()
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == reflect.TypeFor[Origin]() {
			v.Field(i).Set(reflect.ValueOf(origin(e)))
			continue
		}
		tag, ok := f.Tag.Lookup("kiwi")
		if !ok {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		raw, present := lookup(e, rule, name, option == "child")
		if !present && raw == "" {
			continue
		}
		if err := setField(v.Field(i), raw, option); err != nil {
			return fmt.Errorf("%s: reading %s of <%s>: %w", e.attrPos(name), name, e.name, err)
		}
	}
	return nil
}

// origin returns where an element, its attributes and its children are.
func origin(e *element) Origin {
	o := Origin{Pos: e.pos, attrs: map[string]Position{}}
	for _, c := range e.elements("") {
		if _, ok := o.attrs[c.name]; !ok {
			o.attrs[c.name] = c.pos
		}
	}
	for _, a := range e.attrs {
		o.attrs[a.name] = a.pos
	}
	return o
}

// lookup returns the value of an attribute or child element as the table sees
// it: white space collapsed unless it is free text, the default when absent.
func lookup(e *element, rule *elementRule, name string, child bool) (value string, present bool) {
	if child {
		c := e.child(name)
		if c == nil {
			return "", false
		}
		return collapse(c.text()), true
	}
	r := rule.attr(name)
	value, present = e.attr(name)
	switch {
	case r == nil:
		return value, present
	case !present:
		return r.Default, false
	case r.Value.Kind != kindText:
		return collapse(value), true
	}
	return value, true
}

func setField(f reflect.Value, raw, option string) error {
	switch option {
	case "words":
		f.Set(reflect.ValueOf(strings.Fields(raw)))
		return nil
	case "commas":
		f.Set(reflect.ValueOf(splitCommas(raw)))
		return nil
	case "mib":
		n, err := parseMiB(raw)
		f.SetInt(int64(n))
		return err
	}
	if f.Type() == reflect.TypeFor[Tristate]() {
		b, _ := parseBool(raw)
		f.Set(reflect.ValueOf(tristate(b)))
		return nil
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(raw)
	case reflect.Pointer:
		f.Set(reflect.ValueOf(&raw))
	case reflect.Bool:
		b, _ := parseBool(raw)
		f.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(raw)
		f.SetInt(int64(n))
		return err
	default:
		return fmt.Errorf("a field of type %s can't be read", f.Type())
	}
	return nil
}

func tristate(b bool) Tristate {
	if b {
		return True
	}
	return False
}

// splitCommas splits a list at its commas and drops empty parts.
func splitCommas(s string) []string {
	var list []string
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// decodeAll decodes elements of one kind into a list.
func decodeAll[T any](elements []*element, rule *elementRule) ([]T, error) {
	var list []T
	for _, e := range elements {
		var item T
		if err := decode(e, rule, &item); err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, nil
}

// ruleOf returns the rule of a child element by its path below an element,
// such as ruleOf(packagesRule, "package").
func ruleOf(rule *elementRule, path ...string) *elementRule {
	for _, name := range path {
		rule = rule.child(name).Rule
	}
	return rule
}
