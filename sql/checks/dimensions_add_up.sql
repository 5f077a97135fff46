-- table = "dim_merchants"
-- about = "A transaction has one merchant, one user and one country: all three dimensions count the same."

SELECT merchants, users, countries
FROM (SELECT sum(transactions) AS merchants FROM dim_merchants) AS by_merchant
CROSS JOIN (SELECT sum(transactions) AS users FROM dim_users) AS by_user
CROSS JOIN (SELECT sum(transactions) AS countries FROM dim_countries) AS by_country
WHERE merchants <> users OR users <> countries
