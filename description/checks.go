package description

// check returns what can't work in a resolved image.
func check(img *Image) Errors {
	var errs Errors
	return errs
}
