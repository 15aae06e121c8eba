//! What a filetest can do.
//!
//! - `print`: parses, verifies, prints.
//! - `parse-error`: the parser's error.
//! - `verify`: the verifier's error.
//! - `autodiff <output> ...`: the gradient of the sum of the named outputs' elements, as outputs `grad.<input>`, one
//!   for each floating-point parameter, weight and batch input that has one. The tables of windows are the inputs
//!   `window_table` and `row_table`, if the graph has them. Or the error, if there is no gradient.
//! - `run`: the outputs, from the reference interpreter in f64. Data stand in comments, see [`crate::data`]. Or the
//!   error, if the data are refused.
//! - `pass <name>`: the graph after the pass of this name, see [`crate::passes`], and the pass's remarks. If there are
//!   data, both graphs are run on them as by `run`.

use crate::AnyError;
use crate::case::Case;
use crate::data;
use crate::passes::pass_by_name;
use gptjc_graphs::autodiff::{WindowTables, differentiate};
use gptjc_graphs::graph::{Graph, Role};
use gptjc_graphs::interp::run;
use gptjc_graphs::ops::elementwise::Fill;
use gptjc_graphs::text::{parse, parse_all, print};
use gptjc_graphs::verify::verify;

/// What comes out of a filetest, to be compared with its expectation.
pub(crate) fn outcome(case: &Case<'_>) -> Result<String, AnyError> {
    match case.kind {
        "print" => verified(parse_all(case.source)?),
        "parse-error" => match parse_all(case.source) {
            Ok(graphs) => Err(format!("expected a parse error, found {} graphs", graphs.len()).into()),
            Err(error) => Ok(format!("{error}\n")),
        },
        "verify" => match parse_all(case.source)?.iter().try_for_each(verify) {
            Ok(()) => Err("expected a graph that the verifier refuses, found one that it accepts".into()),
            Err(error) => Ok(format!("{error}\n")),
        },
        "autodiff" => {
            let graph = parse(case.source)?;
            verify(&graph)?;
            or_error(gradient(graph, &case.arguments)).map_or_else(Ok, |graph| verified(vec![graph]))
        }
        "run" => {
            let graph = parse(case.source)?;
            verify(&graph)?;
            let inputs = data::tensors(case.comments("in"), &graph)?;
            or_error(run::<f64>(&graph, &inputs).map_err(AnyError::from))
                .map_or_else(Ok, |outputs| Ok(data::listing(&graph, &outputs)))
        }
        "pass" => pass(case),
        other => {
            Err(format!("expected print, parse-error, verify, autodiff, run or pass, found `{other}`").into())
        }
    }
}

/// The value, or the error as what comes out.
fn or_error<T>(result: Result<T, AnyError>) -> Result<T, String> {
    result.map_err(|error| format!("error: {error}\n"))
}

/// The graphs' text, if the verifier accepts them.
fn verified(graphs: Vec<Graph>) -> Result<String, AnyError> {
    graphs.iter().try_for_each(verify)?;
    Ok(graphs.iter().map(print).collect::<Vec<_>>().join("\n"))
}

fn gradient(mut graph: Graph, outputs: &[&str]) -> Result<Graph, AnyError> {
    let table = |name| graph.find_input(name).map(|input| input.value);
    let tables = WindowTables { slots: table("window_table"), rows: table("row_table") };
    let mut seeds = Vec::new();
    for name in outputs {
        let value = graph.find_output(name).ok_or_else(|| format!("the graph has no output `{name}`"))?;
        seeds.push((value, graph.push1(Fill { value: 1.0 }, &[value])?));
    }
    let cotangents = differentiate(&mut graph, &seeds, tables)?;
    for input in graph.inputs().to_vec() {
        let is_asked_for = match input.role {
            Role::Weight | Role::Parameter | Role::Batch => graph.ty(input.value).dtype.is_float(),
            Role::State | Role::Control => false,
        };
        if let (true, Some(&cotangent)) = (is_asked_for, cotangents.get(&input.value)) {
            graph.output(&format!("grad.{}", input.name), cotangent);
        }
    }
    Ok(graph)
}

fn pass(case: &Case<'_>) -> Result<String, AnyError> {
    let [name] = case.arguments[..] else { return Err("expected `; test pass <name>`".into()) };
    let pass = pass_by_name(name).ok_or_else(|| format!("there is no pass `{name}`"))?;
    let before = parse(case.source)?;
    verify(&before)?;
    let mut after = before.clone();
    let remarks = match or_error(pass(&mut after)) {
        Ok(remarks) => remarks,
        Err(error) => return Ok(error),
    };
    let mut text = verified(vec![after.clone()])?;
    text.extend(remarks.iter().map(|remark| format!("remark: {remark}\n")));
    if case.comments("in").next().is_some() {
        for (when, graph) in [("before", &before), ("after", &after)] {
            let outputs = run::<f64>(graph, &data::tensors(case.comments("in"), graph)?)?;
            text.extend(data::listing(graph, &outputs).lines().map(|line| format!("{when}: {line}\n")));
        }
    }
    Ok(text)
}
