package description

import (
	"fmt"
	"strings"
)

// maxErrors is how many mistakes are looked for: nobody reads more at once.
const maxErrors = 200

// validator checks a tree against the table and collects all that is wrong.
type validator struct {
	errors   Errors
	warnings Errors
	version  version
	image    string // the image type that the walk is inside of
	// shape leaves out what elements and attributes demand of one another, as
	// schemas do.
	shape bool
}

// validate returns everything in the tree that the table does not allow, and
// what it allows but nothing will use.
func validate(root *element, v version) (errs, warnings Errors) {
	c := &validator{version: v}
	return c.validate(root)
}

func (c *validator) validate(root *element) (errs, warnings Errors) {
	if root.name != imageRule.Name {
		c.errors.add(root.pos, "a description starts with <image>", "the top element is <%s>", root.name)
		return c.errors, nil
	}
	c.element(root, imageRule)
	return c.errors, c.warnings
}

func (c *validator) element(e *element, rule *elementRule) {
	if len(c.errors) > maxErrors {
		return
	}
	if rule.Foreign {
		c.foreign(e)
		return
	}
	if rule == typeRule {
		// An unknown type is reported once and not again for each attribute.
		if image, _ := e.attr("image"); contains(imageTypes, collapse(image)) {
			c.image = collapse(image)
		}
		defer func() { c.image = "" }()
	}
	c.attrs(e, rule)
	c.text(e, rule)
	c.children(e, rule)
	if !c.shape {
		c.rules(e, rule)
	}
}

// foreign checks that all inside is of other namespaces.
func (c *validator) foreign(e *element) {
	inner := e.elements("")
	if len(inner) == 0 {
		c.errors.add(e.pos, "remove it", "<%s> holds no element", e.name)
	}
	for _, f := range inner {
		namespace, _ := f.attr("xmlns")
		if inherited, ok := e.attr("xmlns"); ok && namespace == "" {
			namespace = inherited
		}
		if !strings.Contains(f.name, ":") && strings.TrimSpace(namespace) == "" {
			c.errors.add(f.pos, `write <x:`+f.name+` xmlns:x="...">`, "<%s> in <%s> is of no namespace", f.name, e.name)
		}
	}
	if t := collapse(e.text()); t != "" {
		c.errors.add(e.pos, "remove it", "<%s> holds the text %q and can hold none", e.name, clip(t, 40))
	}
}

func (c *validator) attrs(e *element, rule *elementRule) {
	for _, a := range e.attrs {
		r := rule.attr(a.name)
		switch {
		case strings.HasPrefix(a.name, "xmlns:"): // names a namespace, for elements of an <extension>
		case a.name == "xmlns" && strings.TrimSpace(a.value) != "":
			c.errors.add(a.pos, "remove it", "a description has no namespace of its own, and <%s> is put into %q", e.name, a.value)
		case a.name == "xmlns":
		case r == nil || !inVersion(c.version, r.Since, r.Until):
			c.unknownAttr(a, r, rule)
		default:
			if problem, hint := r.valueIn(c.version).check(a.value, c.version); problem != "" {
				c.errors.add(a.pos, hint, "attribute %s of <%s>: %s", a.name, e.name, problem)
				continue
			}
			if c.shape {
				continue
			}
			if types := r.typesIn(c.version); rule == typeRule && c.image != "" && !forTypes(types, c.image) {
				c.errors.add(a.pos, "it is for "+listTypes(types),
					"attribute %s has no meaning for the image type %s", a.name, c.image)
			}
			if r.Excludes != "" {
				if _, both := e.attr(r.Excludes); both {
					c.errors.add(a.pos, "remove one of them", "attributes %s and %s of <%s> exclude each other", a.name, r.Excludes, e.name)
				}
			}
		}
	}
	for i := range rule.Attrs {
		r := &rule.Attrs[i]
		if !r.Required || !inVersion(c.version, r.Since, r.Until) {
			continue
		}
		if _, ok := e.attr(r.Name); !ok {
			c.errors.add(e.pos, fmt.Sprintf("add %s=\"...\" (%s)", r.Name, r.valueIn(c.version).want(c.version)), "<%s> needs the attribute %s", e.name, r.Name)
		}
	}
}

func (c *validator) unknownAttr(a attribute, r *attrRule, rule *elementRule) {
	if r != nil {
		c.errors.add(a.pos, versionHint(r.Since, r.Until), "attribute %s of <%s> does not exist in schema %s", a.name, rule.Name, c.version)
		return
	}
	var known []string
	for i := range rule.Attrs {
		if inVersion(c.version, rule.Attrs[i].Since, rule.Attrs[i].Until) {
			known = append(known, rule.Attrs[i].Name)
		}
	}
	fallback := "known are " + strings.Join(known, ", ")
	if hint := former(a.name); hint != "" {
		c.errors.add(a.pos, hint, "<%s> has no attribute %s", rule.Name, a.name)
		return
	}
	switch place := whereAttr(a.name); {
	case place != "":
		fallback = "it belongs to <" + place + ">"
	case len(known) == 0:
		fallback = "it has no attributes"
	case len(known) > 16:
		fallback = "the reference of the description lists the attributes of <" + rule.Name + ">"
	}
	c.errors.add(a.pos, DidYouMean(a.name, known, fallback), "<%s> has no attribute %s", rule.Name, a.name)
}

func versionHint(since, until version) string {
	if until != 0 {
		return "it was dropped after " + until.String()
	}
	return "it came with " + since.String() + ": raise schemaversion"
}

func listTypes(types string) string {
	return strings.Join(strings.Fields(types), ", ")
}

func (c *validator) text(e *element, rule *elementRule) {
	if rule.Text == nil {
		t := collapse(e.text())
		switch {
		case t == "":
		case rule.Mixed():
			c.warnings.add(e.pos, "remove it", "the text %q in <%s> has no meaning and is ignored", clip(t, 40), e.name)
		default:
			c.errors.add(e.pos, "remove it", "<%s> holds the text %q and can hold none", e.name, clip(t, 40))
		}
		return
	}
	if problem, hint := rule.Text.check(e.text(), c.version); problem != "" {
		c.errors.add(e.pos, hint, "<%s>: %s", e.name, problem)
	}
}

func (c *validator) children(e *element, rule *elementRule) {
	counts := map[string]int{}
	for _, child := range e.elements("") {
		r := rule.child(child.name)
		switch {
		case len(c.errors) > maxErrors:
			return
		case r == nil:
			c.unknownChild(child, rule)
			continue
		case !inVersion(c.version, r.Rule.Since, r.Rule.Until):
			c.errors.add(child.pos, versionHint(r.Rule.Since, r.Rule.Until), "<%s> does not exist in schema %s", child.name, c.version)
			continue
		}
		counts[child.name]++
		if counts[child.name] == 2 && (r.Card == one || r.Card == optional) {
			c.errors.add(child.pos, "", "<%s> can hold only one <%s>", e.name, child.name)
		}
		if rule == typeRule && c.image != "" && !c.shape && !forTypes(r.Rule.Types, c.image) {
			c.errors.add(child.pos, "it is for "+listTypes(r.Rule.Types), "<%s> has no meaning for the image type %s", child.name, c.image)
		}
		c.element(child, r.Rule)
	}
	for _, r := range rule.Children {
		if (r.Card == one || r.Card == some) && counts[r.Rule.Name] == 0 {
			c.errors.add(e.pos, fmt.Sprintf("add <%s>", r.Rule.Name), "<%s> needs a <%s> inside", e.name, r.Rule.Name)
		}
	}
}

func (c *validator) unknownChild(child *element, rule *elementRule) {
	var known []string
	for _, r := range rule.Children {
		if inVersion(c.version, r.Rule.Since, r.Rule.Until) {
			known = append(known, r.Rule.Name)
		}
	}
	if hint := former(child.name); hint != "" {
		c.errors.add(child.pos, hint, "<%s> can't hold <%s>", rule.Name, child.name)
		return
	}
	fallback := "known are " + strings.Join(known, ", ")
	if len(known) == 0 {
		fallback = "it holds no elements"
	} else if place := whereElement(child.name); place != "" {
		fallback = "it belongs into <" + place + ">"
	}
	c.errors.add(child.pos, DidYouMean(child.name, known, fallback), "<%s> can't hold <%s>", rule.Name, child.name)
}

// whereElement returns the element that may hold one of this name.
func whereElement(name string) string {
	return findRule(imageRule, func(rule *elementRule) bool { return rule.child(name) != nil })
}

// whereAttr returns the element that has an attribute of this name.
func whereAttr(name string) string {
	return findRule(imageRule, func(rule *elementRule) bool { return rule.attr(name) != nil })
}

// findRule returns the name of the first element below rule that fits.
func findRule(rule *elementRule, fits func(*elementRule) bool) string {
	if fits(rule) {
		return rule.Name
	}
	for _, c := range rule.Children {
		if found := findRule(c.Rule, fits); found != "" {
			return found
		}
	}
	return ""
}

// former explains names that older schemas had. Descriptions of those are
// brought up to date; the names are mistakes in newer ones.
func former(name string) string {
	if now := formerNames[name]; now != "" {
		return "it is " + now + " by now"
	}
	if contains(droppedNames, name) {
		return "newer schemas have dropped it: remove it"
	}
	return ""
}

var formerNames = map[string]string{
	"pwd": "the attribute password", "group": "the attribute groups of <user>",
	"opensusePattern": "<namedCollection>", "rhelGroup": "<namedCollection>", "opensuseProduct": "<product>",
	"boot-theme": "<bootloader-theme> and <bootsplash-theme>", "container": "<containerconfig name=\"...\">",
	"bootloader": "<bootloader name=\"...\">", "bootloader_console": "the attribute console of <bootloader>",
	"boottimeout": "the attribute timeout of <bootloader>", "zipl_targettype": "the attribute targettype of <bootloader>",
	"additionaltags": "the attribute additionalnames", "domain": "the attribute xen_server of <type>",
	"btrfs_root_is_snapshot": "the attribute btrfs_root_is_snapper_snapshot", "console": "the attribute output_console",
}

var droppedNames = []string{
	"inherit", "syncMBR", "fsreadonly", "fsreadwrite", "zfsoptions", "split", "kiwirevision", "checkprebuilt", "fsnocheck",
	"status", "replaces", "defaultprebuilt", "defaultdestination", "defaultroot", "partitioner", "rpm-force", "hwclock",
	"hybrid", "oem-ataraid-scan", "oem-align-partition", "pxedeploy", "baseroot", "defaultbaseroot", "ec2region",
}
