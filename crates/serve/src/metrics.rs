//! `GET /metrics`, under vLLM's names with `upcycle:` in front.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use upcycle::{Engine, EngineStatus};
use upcycle_core::Stats;

use crate::summary::Summary;

type Label = [(&'static str, &'static str); 1];

/// Times and counts of finished requests.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    finished: Family<Label, Counter>,
    first_token: Histogram,
    inter_token: Histogram,
    whole: Histogram,
    prompt_tokens: Histogram,
    generation_tokens: Histogram,
    tokens_per_step: Histogram,
    tree_size: Histogram,
}

impl Metrics {
    pub(crate) fn new(engine: &Engine) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let counts = || Histogram::new(exponential_buckets(1.0, 2.0, 18));
        let metrics = Self {
            registry: Registry::default(),
            finished: Family::default(),
            first_token: seconds(),
            inter_token: seconds(),
            whole: seconds(),
            prompt_tokens: counts(),
            generation_tokens: counts(),
            tokens_per_step: Histogram::new((2..=16).map(|half| f64::from(half) / 2.0)),
            tree_size: Histogram::new([0.0].into_iter().chain(exponential_buckets(1.0, 2.0, 9))),
        };
        metrics.registered(engine)
    }

    fn registered(mut self, engine: &Engine) -> Self {
        let registry = &mut self.registry;
        let seconds = [
            ("upcycle:time_to_first_token", "Time to the first token", &self.first_token),
            ("upcycle:inter_token_latency", "Time between two tokens of an answer", &self.inter_token),
            ("upcycle:e2e_request_latency", "Time of a whole answer", &self.whole),
        ];
        for (name, help, histogram) in seconds {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        let counts = [
            ("upcycle:request_prompt_tokens", "Tokens of a prompt", &self.prompt_tokens),
            ("upcycle:request_generation_tokens", "Tokens of an answer", &self.generation_tokens),
            ("upcycle:spec_decode_tokens_per_step", "Mean tokens a step of an answer", &self.tokens_per_step),
            ("upcycle:spec_decode_tree_size", "Draft tokens scored in a step", &self.tree_size),
        ];
        for (name, help, histogram) in counts {
            registry.register(name, help, histogram.clone());
        }
        registry.register(
            "upcycle:request_success",
            "Finished answers by their finish reason",
            self.finished.clone(),
        );
        registry.register_collector(Box::new(EngineCollector(engine.clone())));
        self
    }

    pub(crate) fn first_token(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    /// `tokens` came `time` after those before.
    pub(crate) fn inter_token(&self, time: Duration, tokens: usize) {
        let each = time.as_secs_f64() / tokens.max(1) as f64;
        (0..tokens).for_each(|_| self.inter_token.observe(each));
    }

    pub(crate) fn finished(&self, end: &Summary, stats: &Stats, time: Duration) {
        self.finished.get_or_create(&[("finished_reason", end.finish_reason)]).inc();
        self.whole.observe(time.as_secs_f64());
        self.prompt_tokens.observe(end.usage.prompt as f64);
        self.generation_tokens.observe(end.usage.completion as f64);
        if stats.steps() > 0 {
            self.tokens_per_step.observe(stats.tokens_per_step());
        }
        stats.nodes_per_step.iter().for_each(|&nodes| self.tree_size.observe(f64::from(nodes)));
    }

    /// In the text format of OpenMetrics.
    pub(crate) fn to_text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Asks the engine at each scrape.
#[derive(Debug)]
struct EngineCollector(Engine);

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let EngineStatus { running, waiting, cached_tokens, totals } = self.0.status();
        let most = self.0.config().engine().max_cached_tokens.max(1);
        for (name, help, value) in [
            ("upcycle:num_requests_running", "Requests being answered", running as f64),
            ("upcycle:num_requests_waiting", "Requests in the queue", waiting as f64),
            ("upcycle:kv_cache_tokens", "Tokens in the KV cache", cached_tokens as f64),
            (
                "upcycle:kv_cache_usage_perc",
                "Tokens in the KV cache, as a share of engine.max_cached_tokens",
                cached_tokens as f64 / most as f64,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in [
            ("upcycle:prompt_tokens", "Tokens of the prompts of finished answers", totals.prompt_tokens),
            ("upcycle:prefix_cache_hits", "Of these, tokens that were cached", totals.cached_prompt_tokens),
            ("upcycle:generation_tokens", "Tokens generated", totals.generated_tokens),
            ("upcycle:spec_decode_num_drafts", "Steps of finished answers", totals.steps),
            ("upcycle:spec_decode_num_draft_tokens", "Draft tokens scored", totals.drafted),
            ("upcycle:spec_decode_num_accepted_tokens", "Draft tokens accepted", totals.accepted),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let mut family = |name, help, label: &'static str, values: Vec<(String, u64)>| {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (of, value) in values {
                ConstCounter::new(value).encode(family.encode_family(&[(label, of)])?)?;
            }
            Ok::<_, std::fmt::Error>(())
        };
        let by_depth = totals.accepted_by_depth.iter().enumerate();
        family(
            "upcycle:spec_decode_num_accepted_tokens_per_pos",
            "Draft tokens accepted, by their depth in the tree, from 0",
            "position",
            by_depth.map(|(depth, &accepted)| (depth.to_string(), accepted)).collect(),
        )?;
        let by_source = |counts: [u64; 8]| {
            self.0.sources().iter().zip(counts).map(|(name, count)| ((*name).to_owned(), count)).collect()
        };
        family(
            "upcycle:spec_decode_num_draft_tokens_per_source",
            "Draft tokens scored, by the source that proposed them",
            "source",
            by_source(totals.drafted_by_source),
        )?;
        family(
            "upcycle:spec_decode_num_accepted_tokens_per_source",
            "Draft tokens accepted, by the source that proposed them",
            "source",
            by_source(totals.accepted_by_source),
        )
    }
}
